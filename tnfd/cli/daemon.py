"""``tnfd run``."""

from __future__ import annotations

import os

import typer

from tnfd.cli.options import EXIT_FAILED, ConfigOption, complain, leave_with_problems, load_or_exit


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(config: ConfigOption = None) -> None:
    """Watch the inboxes and transcribe, in the foreground.

    Logs go to stderr. Ctrl-C or SIGTERM finishes what is in progress and stops; a second one stops at once.

    Example: tnfd run --config ~/tnfd.toml
    """
    import asyncio

    from tnfd import logs
    from tnfd.config import require_runnable
    from tnfd.errors import ConfigError

    loaded = load_or_exit(config)
    try:
        require_runnable(loaded)
    except ConfigError as error:
        leave_with_problems(error)
    logs.configure(loaded.daemon.log_format, loaded.daemon.log_level)

    from tnfd.daemon import run_daemon
    from tnfd.supervise import TooManyCrashes

    try:
        code = asyncio.run(run_daemon(loaded, os.environ))
    except TooManyCrashes as error:
        complain(f"tnfd: {error}; the log above says why")
        code = EXIT_FAILED
    raise typer.Exit(code)
