"""``tnfd demo``."""

from __future__ import annotations

import typer

from tnfd.cli.options import EXIT_FAILED, complain


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo() -> None:
    """Transcribe a spoken sample, without key or network.

    It goes through the real daemon and the embedded engine, which is the extra tnfd[sphinx].

    Example: tnfd demo
    """
    from tnfd.demo.play import DemoFailed, play

    try:
        play(typer.echo)
    except DemoFailed as error:
        complain(f"tnfd: {error}")
        raise typer.Exit(EXIT_FAILED) from None
