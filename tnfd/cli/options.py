"""What commands share: the ``--config`` option, exit codes, and loading the configuration or leaving."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from tnfd.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tnfd.config import Config
    from tnfd.errors import ConfigError

EXIT_OK = 0
EXIT_FAILED = 1  # some files failed or are partial, or a bug
EXIT_USAGE = 2
EXIT_UNHEALTHY = 3  # status alone
EXIT_TRY_LATER = 75
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The configuration file, instead of searching for one."),
]


def complain(text: str) -> None:
    """Print to stderr."""
    terminal.say(text, err=True, prose=True)


def leave_with_problems(error: ConfigError) -> NoReturn:
    """Print every problem to stderr, one a line, and exit 78."""
    for problem in error.problems:
        complain(str(problem))
    raise typer.Exit(EXIT_CONFIG)


def load_or_exit(
    config_path: Path | None,
    *,
    overrides: Mapping[str, object] | None = None,
    places: bool = True,
) -> Config:
    """Load the configuration; with mistakes in it print them all to stderr and exit 78.

    ``places=False`` for commands that must work while an inbox is away (see ``config.load_config``).
    """
    from tnfd.config import load_config
    from tnfd.errors import ConfigError

    try:
        return load_config(config_path, os.environ, overrides or {}, places=places)
    except ConfigError as error:
        leave_with_problems(error)


def at_a_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()
