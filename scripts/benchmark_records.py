"""The figures of the benchmarks in a JSON file, which an interrupted run continues."""

import json
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tfseg.benchmark import Job

#: the file's layout
VERSION = 1


def key(job: Job, peer: str) -> str:
    """What a record is found by; ``peer`` is empty where tfseg is measured alone."""
    beside = f" beside {peer}" if peer else ""
    return f"{job.model} {job.mode} {job.batch}x{job.height}x{job.width}{beside}"


def new(job: Job, peer: str, **content: Any) -> dict[str, Any]:
    """A record: the job, the peer, and the content."""
    return {"job": asdict(job), "peer": peer, **content}


def how(script: str) -> dict[str, Any]:
    """The command that is running and what else the machine does, as a record's ``run``."""
    command = shlex.join(["python", script, *sys.argv[1:]])
    return {"command": command, "load_average": os.getloadavg()[0]}


def load(path: Path) -> dict[str, dict[str, Any]]:
    """The records by key; none if there is no file.

    Raises:
        ValueError: if it is no file of records.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']!r}, not {VERSION}")
        return dict(content["records"])
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(f"{path} holds no records of benchmarks: {e!r}") from e


def save(path: Path, records: dict[str, dict[str, Any]]) -> None:
    """Replaces the file, at once."""
    text = json.dumps({"version": VERSION, "records": records}, indent=1) + "\n"
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
