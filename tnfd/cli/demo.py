"""``tnfd demo``."""

from __future__ import annotations

import typer

from tnfd.cli import terminal
from tnfd.cli.options import EXIT_FAILED, ConfigOption, complain
from tnfd.libraries import install_command, library_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", help=_help())(demo)


def _help() -> str:
    return f"""Transcribe a spoken sample, without key or network.

    It goes through the real daemon and the embedded engine; --config is not used. The engine needs
    {library_of("sphinx")}:

    \b
    {install_command("sphinx")}

    Example: tnfd demo
    """


def demo(config: ConfigOption = None) -> None:  # noqa: ARG001  # every command has it
    """Transcribe a spoken sample; the configuration is not used."""
    import signal

    from tnfd.demo.play import DemoFailed, play

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a daemon and a folder are to be taken down
    try:
        play(terminal.say, terminal.columns())
    except DemoFailed as error:
        complain(f"tnfd: {error}")
        raise typer.Exit(EXIT_FAILED) from None
