"""``tnfd config check | show | path``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from tnfd.cli import terminal
from tnfd.cli.options import ConfigOption, complain, leave_with_problems, load_or_exit
from tnfd.rules.counted import counted

if TYPE_CHECKING:
    from tnfd.config import Config


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        rich_markup_mode=None, no_args_is_help=True, help="Check, show or find the configuration."
    )
    group.command("check")(check)
    group.command("show")(show)
    group.command("path")(path)
    app.add_typer(group, name="config")


def check(config: ConfigOption = None) -> None:
    """Name every mistake in the configuration, with file and line.

    Exit code 0: there is none; 78: there are some.

    Example: tnfd config check --config ~/tnfd.toml
    """
    from tnfd.config.advice import warnings_of
    from tnfd.errors import ConfigError

    loaded = load_or_exit(config)
    try:
        warnings = warnings_of(loaded, os.environ)
    except ConfigError as error:
        leave_with_problems(error)
    for warning in warnings:
        complain(f"warning: {warning}")
    terminal.say(_summary(loaded), prose=True)


def show(config: ConfigOption = None) -> None:
    """Print what holds as TOML, each value with its source.

    Keys are masked.

    Example: tnfd config show
    """
    from tnfd.config.show import effective_toml

    typer.echo(effective_toml(load_or_exit(config, places=False), os.environ), nl=False)


def path(config: ConfigOption = None) -> None:
    """Print the path of the configuration file.

    Works on a broken one, too.

    Example: tnfd config path
    """
    from tnfd.config.places import find_file, home_config
    from tnfd.errors import ConfigError

    try:
        found = find_file(config, os.environ)
    except ConfigError as error:
        leave_with_problems(error)
    if found is None:
        complain("no configuration file yet; this is where tnfd init writes one:")
    typer.echo(os.fsencode(found or home_config(os.environ)).decode("utf-8", "backslashreplace"))


def _summary(config: Config) -> str:
    inboxes = [f"{inbox.name} ({inbox.path})" for inbox in config.inboxes]
    engines = [f"{engine.name} ({engine.model})" for engine in config.engines.values()]
    missing = [noun for noun, found in (("an inbox", inboxes), ("an engine", engines)) if not found]
    verdict = f"ok, but tnfd run needs {' and '.join(missing)}" if missing else "ok"
    return (
        f"{verdict}: {config.file or 'no file; defaults and environment'}: "
        f"{_listed(inboxes, 'inbox', 'inboxes')}; {_listed(engines, 'engine', 'engines')}"
    )


def _listed(names: list[str], one: str, many: str) -> str:
    return f"{counted(len(names), one, many)}: {', '.join(names)}" if names else f"no {one}"
