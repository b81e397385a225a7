"""Feeds mutated inputs to one target: ``worker.py TARGET SEED START STOP FOLDER``.

On standard output: a number before each input, a line of JSON for each that was handled amiss, and
"done" with the peak of memory. What ends or outlasts this process is the campaign's to notice.
"""

import json
import random
import resource
import sys
import traceback
from contextlib import suppress
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import fuzzing.light  # noqa: F401

from fuzzing.mutations import mutated
from fuzzing.sentinel import Forbidden, Sentinel
from fuzzing.targets import TARGETS, Target

#: Bytes of address space that an input may take, and of memory, beside what the process has.
ADDRESSES, MEMORY = 2**30, 512 * 2**20


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _addresses() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def data_of(target: Target, seed: int, index: int) -> bytes:
    """The input of a number; the first ones are the target's valid ones."""
    if index < len(target.seeds):
        return target.seeds[index]
    return mutated(target.seeds, random.Random(f"{target.name} {seed} {index}"))


def _write(target: Target, data: bytes) -> None:
    for place in target.places:
        place.write_bytes(data)


def _feed(target: Target, sentinel: Sentinel) -> str | None:
    """What was amiss in how the target handled its input."""
    before, sentinel.seen = _peak(), []
    problem = None
    try:
        with sentinel.watching():
            target.run()
    except target.allowed:
        pass
    except Forbidden:
        pass
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        problem = f"{type(error).__name__} at {where}: {str(error)[:200]}"
    if sentinel.seen:
        return f"forbidden: {sentinel.seen[0]}"
    if _peak() - before > MEMORY:
        return f"memory: {(_peak() - before) >> 20} MiB"
    return problem


def main(name: str, seed: int, start: int, stop: int, folder: Path) -> None:
    """Feeds the inputs ``start`` to ``stop`` - 1."""
    target = TARGETS[name](folder)
    for data in target.seeds:  # imports what is imported late
        _write(target, data)
        with suppress(*target.allowed):
            target.run()
    sentinel = Sentinel(folder)
    limit = _addresses() + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    begun = _peak()
    for index in range(start, stop):
        print(index, flush=True)
        _write(target, data_of(target, seed, index))
        problem = _feed(target, sentinel)
        if problem is not None:
            print(json.dumps({"index": index, "problem": problem}), flush=True)
    print(f"done {(_peak() - begun) >> 20}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
