"""Feeds mutated files to tfseg's readers: ``fuzz.py [TARGET ...] [--count N] [--seed S]``.

Each target runs in a process with limits of time and memory, in which whatever runs code, starts a
program, writes a file or opens a socket is noticed. What is printed of a problem is enough to make
its input again: ``fuzz.py TARGET --seed S --show INDEX > FILE``.
"""

import sys
import tempfile
import time
from pathlib import Path

import click
import fuzzing.light  # noqa: F401
from fuzzing import campaign
from fuzzing.targets import TARGETS
from fuzzing.worker import data_of


@click.command()
@click.argument("targets", nargs=-1, type=click.Choice(list(TARGETS)))
@click.option("--count", default=1000, show_default=True, help="Inputs of each target.")
@click.option("--seed", default=0, show_default=True, help="Of the mutations.")
@click.option("--seconds", default=30.0, show_default=True, help="The longest time of an input.")
@click.option("--show", type=int, help="Write this input of the one target, and run nothing.")
def main(targets: tuple[str, ...], count: int, seed: int, seconds: float, show: int | None) -> None:
    """Fuzz TARGETS, by default all; the exit status is 1 if any has a problem."""
    if show is not None:
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.buffer.write(data_of(TARGETS[targets[0]](Path(folder)), seed, show))
        return
    problems = 0
    for name in targets or TARGETS:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            found = campaign.run(name, count, seed, Path(folder), seconds)
        click.echo(
            f"{name}: {found.inputs} inputs, {len(found.problems)} problems, memory grew by "
            f"{found.grown} MiB, {time.monotonic() - begun:.0f} s"
        )
        for index, problem in sorted(found.problems.items()):
            click.echo(f"  {index}: {problem}")
        problems += len(found.problems)
    sys.exit(problems > 0)


if __name__ == "__main__":
    main()
