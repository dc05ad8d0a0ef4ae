"""``tnfd run``."""

from __future__ import annotations

import os
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn

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

    import structlog

    from tnfd import logs
    from tnfd.config import require_runnable
    from tnfd.config.advice import warnings_of
    from tnfd.errors import ConfigError

    loaded = load_or_exit(config)
    try:
        require_runnable(loaded)
        warnings = warnings_of(loaded, os.environ)
    except ConfigError as error:
        leave_with_problems(error)
    logs.configure(loaded.daemon.log_format, loaded.daemon.log_level)
    for warning in warnings:
        structlog.get_logger("tnfd.config").warning("config.warning", reason=warning)

    from tnfd.daemon import run_daemon
    from tnfd.supervise import TooManyCrashes

    try:
        asyncio.run(_run_and_leave(run_daemon(loaded, os.environ)))
    except TooManyCrashes as error:
        complain(f"tnfd: {error}; the log above says why")
        raise typer.Exit(EXIT_FAILED) from None


async def _run_and_leave(daemon: Coroutine[Any, Any, int]) -> NoReturn:
    """Leave right after the daemon has: the interpreter would wait for threads that hang on a share."""
    code = await daemon
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
