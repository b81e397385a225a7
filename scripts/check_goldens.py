"""Compares the networks with golden files: python scripts/check_goldens.py FOLDER [NAME ...]."""

import sys
from pathlib import Path

import click

from tfseg.weights import goldens


def _line(path: Path) -> tuple[str, str]:
    """A golden's line and its outcome: passed, failed or unsupported."""
    try:
        result = goldens.check(path)
    except goldens.Unsupported:
        return f"{path.stem}  unsupported", "unsupported"
    except ValueError as error:
        return f"{path.stem}  FAILED  {error}", "failed"
    outcome = "passed" if result.passed else "failed"
    mark = "" if result.passed else "  FAILED"
    return f"{path.stem}  {result.error:.1e}  {result.tap}{mark}", outcome


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("names", nargs=-1)
def main(folder: Path, names: tuple[str, ...]) -> None:
    paths = [folder / f"{name}.npz" for name in names] or sorted(folder.glob("*.npz"))
    missing = [path.stem for path in paths if not path.exists()]
    if missing or not paths:
        known = sorted(path.stem for path in folder.glob("*.npz"))
        raise click.UsageError(f"{folder} has no golden {missing}; it has {known}")
    counts = {"passed": 0, "failed": 0, "unsupported": 0}
    for path in paths:
        line, outcome = _line(path)
        counts[outcome] += 1
        click.echo(line)
    click.echo(f"{counts['passed']} passed, {counts['failed']} failed")
    sys.exit(1 if counts["failed"] else 0)


if __name__ == "__main__":
    main()
