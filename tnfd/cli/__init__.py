"""The command line. Commands parse, call and print; nothing is decided here and nothing heavy is imported."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tnfd import __version__
from tnfd.cli import batch, config, daemon, demo, doctor, init, jobs, pauses, service, status, work
from tnfd.cli.light import lighten
from tnfd.cli.options import EXIT_CONFIG, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_TRY_LATER, complain
from tnfd.cli.plain import plain


class _Commands(TyperGroup):
    """Typer's own answer to Ctrl-C and an aborted prompt is exit code 1."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        lighten(self)
        plain(self)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Abort, EOFError, KeyboardInterrupt):
            complain("\nInterrupted.")
            raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    name="tnfd",
    cls=_Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Watches folders, transcribes the audio and video dropped into them, and writes the transcripts"
    " beside the files.",
    epilog="First time? Run: tnfd init",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tnfd {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


for _module in (init, daemon, batch, status, jobs, work, pauses, config, doctor, service, demo):
    _module.register(app)


def main() -> None:
    """Run a command; errors that have a name are said in a sentence, with the exit code of the contract."""
    from tnfd.errors import AlreadyRunning, ConfigError, StoreUnusable

    try:
        app()
    except ConfigError as error:
        for problem in error.problems:
            complain(str(problem))
        sys.exit(EXIT_CONFIG)
    except AlreadyRunning as error:
        complain(f"tnfd: {error}; stop it first, or use another state_dir")
        sys.exit(EXIT_TRY_LATER)
    except StoreUnusable as error:
        complain(f"tnfd: {error}")
        sys.exit(EXIT_FAILED)
