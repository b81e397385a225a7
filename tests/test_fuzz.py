"""The fuzzers, a few hundred inputs of each reader; and that they notice what they look for."""

import os
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from fuzzing import campaign, mutations
from fuzzing.targets import TARGETS

from tfseg.weights import WeightsError, read_weights

SCRIPTS = Path(campaign.__file__).parents[1]


def test_mutations_follow_from_their_seed():
    seeds = [b"hello, world 12", b'{"a": [1, 2]}']
    made = [mutations.mutated(seeds, random.Random(i)) for i in range(300)]
    assert made == [mutations.mutated(seeds, random.Random(i)) for i in range(300)]
    assert len(set(made)) > 250
    assert min(map(len, made)) < 5
    assert max(map(len, made)) > 10_000


PLANTED = """
import json, os, pickle, socket, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fuzzing.sentinel import Forbidden, Sentinel
folder = Path(sys.argv[2])
sentinel = Sentinel(folder)
def swallow(call):
    try: call()
    except Exception: pass
try:
    with sentinel.watching():
        {what}
except Forbidden:
    pass
print(json.dumps(sentinel.seen))
"""


@pytest.mark.parametrize(
    ("what", "seen"),
    [
        ("os.system('true')", "os.system"),
        ("swallow(lambda: os.system('true'))", "os.system"),
        ("subprocess.run(['true'])", "subprocess.Popen"),
        ("exec('1')", "exec"),
        ("eval('1')", "exec"),
        ("socket.socket()", "socket."),
        ("open(folder / 'x', 'w')", "open"),
        ("open('/etc/passwd')", "open"),
        ("os.remove(folder / 'x')", "os.remove"),
        ("pickle.loads(pickle.dumps(Path('x')))", "pickle.find_class"),
        ("open(folder / 'there').close()", None),
        ("import colorsys", None),
        ("from collections import namedtuple; namedtuple('A', 'b')", None),
    ],
)
def test_the_sentinel_sees_what_is_forbidden(tmp_path, what, seen):
    (tmp_path / "there").touch()
    code = PLANTED.format(what=what)
    command = [sys.executable, "-c", code, str(SCRIPTS), str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f'["{seen}') if seen else said == "[]\n"


def test_a_worker_that_ends_or_hangs_is_started_again(tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, os, sys, time\n"
        "for index in range(int(sys.argv[3]), int(sys.argv[4])):\n"
        "    print(index, flush=True)\n"
        "    if index == 2: os.abort()\n"
        "    if index == 4: time.sleep(600)\n"
        "    if index == 5: print(json.dumps({'index': 5, 'problem': 'odd'}), flush=True)\n"
        "print('done 7', flush=True)\n"
    )
    monkeypatch.setattr(campaign, "_WORKER", worker)
    found = campaign.run("any", 8, 0, tmp_path, seconds=1)
    assert found.problems == {2: "crash: SIGABRT", 4: "hangs: over 1 s", 5: "odd"}
    assert (found.inputs, found.grown) == (8, 7)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(TARGETS) - {"h5"}))
def test_no_input_does_more_than_raise_the_documented_error(tmp_path, name):
    """TFSEG_FUZZ and TFSEG_SEED make more inputs, and others."""
    count, seed = int(os.environ.get("TFSEG_FUZZ", "200")), int(os.environ.get("TFSEG_SEED", "1"))
    if name == "config":  # PyYAML takes a hundred times as long as the other readers
        count //= 5
    assert campaign.run(name, count, seed, tmp_path).problems == {}


@pytest.mark.slow
def test_what_ends_the_process_that_reads_h5_files_leaves_this_one_an_error(tmp_path):
    from fuzzing.worker import data_of

    count, seed = int(os.environ.get("TFSEG_FUZZ", "200")), int(os.environ.get("TFSEG_SEED", "1"))
    problems = campaign.run("h5", count, seed, tmp_path, seconds=5).problems
    for index, problem in problems.items():
        assert problem.startswith(("crash", "hangs", "memory", "MemoryError")), (index, problem)
    target, path = TARGETS["h5"](tmp_path), tmp_path / "damaged.h5"
    for index in [*list(problems)[:2], *range(3, 6)]:
        path.write_bytes(data_of(target, seed, index))
        with suppress(WeightsError):
            read_weights(path)
