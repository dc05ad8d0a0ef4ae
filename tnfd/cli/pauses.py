"""``tnfd pause`` and ``tnfd resume``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tnfd.cli import terminal
from tnfd.cli.complete import engines
from tnfd.cli.jobs import open_control
from tnfd.cli.options import EXIT_USAGE, ConfigOption, complain

if TYPE_CHECKING:
    from tnfd.control import Control

_Engine = Annotated[
    str | None,
    typer.Argument(
        metavar="ENGINE",
        autocompletion=engines,
        show_default=False,
        help="Only this engine; else everything.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("pause")(pause)
    app.command("resume")(resume)


def pause(engine: _Engine = None, config: ConfigOption = None) -> None:
    """Let no new request start until tnfd resume.

    Those under way finish, and files are still taken in. With an ENGINE only that one rests. It holds for
    daemon and batches alike, and across restarts.

    Example: tnfd pause openai
    """
    with open_control(config) as control:
        _check(control, engine)
        added = control.pause(engine)
    what = f"engine {engine}" if engine else "everything"
    again = f"tnfd resume{f' {engine}' if engine else ''}"
    terminal.say(f"{what}: {'paused' if added else 'paused already'}; it goes on with: {again}")


def resume(engine: _Engine = None, config: ConfigOption = None) -> None:
    """End all pauses, or that of one engine.

    Engines that are paused by their failures are tried at once, and so is what waits for a budget.

    Example: tnfd resume
    """
    with open_control(config) as control:
        _check(control, engine)
        resumed = control.resume(engine)
    for name in resumed.lifted:
        terminal.say(f"{f'engine {name}' if name else 'everything'}: resumed")
    for name in resumed.probed:
        terminal.say(f"engine {name}: was paused by its failures, is tried at once")
    if not resumed:
        terminal.say("nothing was paused; what waits is tried at once")
    if engine and resumed.still_held:
        terminal.say("everything is paused still; that ends with: tnfd resume")


def _check(control: Control, engine: str | None) -> None:
    known = control.engine_names()
    if engine is not None and engine not in known:
        complain(f"tnfd: no such engine: {engine}; there are: {', '.join(known) or 'none'}")
        raise typer.Exit(EXIT_USAGE)
