"""What the commands share."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SET = click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a config key."
)


def says_what_is_wrong(command: Callable[..., None]) -> Callable[..., None]:
    """Errors of the user's making end in a message, not in a stack trace."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, FileNotFoundError, FileExistsError, ImportError) as error:
            raise click.ClickException(str(error)) from error

    return run
