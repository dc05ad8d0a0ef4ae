"""``tnfd run``."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from tnfd.cli.options import EXIT_CONFIG, EXIT_FAILED, EXIT_OK, ConfigOption, complain, leave_with_problems

if TYPE_CHECKING:
    from tnfd.config import Config
    from tnfd.daemon.process import Reread
    from tnfd.errors import ConfigError


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
    from tnfd.config import load_config, require_runnable
    from tnfd.config.advice import warnings_of
    from tnfd.errors import ConfigError

    try:
        loaded = load_config(config, os.environ)
        require_runnable(loaded)
        warnings = warnings_of(loaded, os.environ)
    except ConfigError as error:
        _leave(error)
    logs.configure(loaded.daemon.log_format, loaded.daemon.log_level, rotate=True)
    _warn(warnings)

    from tnfd.daemon import run_daemon
    from tnfd.supervise import TooManyCrashes

    try:
        asyncio.run(_run_and_leave(run_daemon(loaded, os.environ, reread=_rereader(config))))
    except TooManyCrashes as error:
        complain(f"tnfd: {error}; the log above says why")
        raise typer.Exit(EXIT_FAILED) from None


def _leave(error: ConfigError) -> NoReturn:
    """Say what is wrong where it will be read: at the terminal, or as errors in the service's log."""
    from tnfd.service.launchd import started_by_launchd
    from tnfd.service.sandbox import advise

    launchd = started_by_launchd(os.environ)
    if not launchd and "JOURNAL_STREAM" not in os.environ:
        leave_with_problems(error)
    import structlog

    from tnfd import logs

    logs.configure("auto", "info", rotate=True)
    hint = advise(error.problems, os.environ) or "correct it (tnfd config check), then start the service"
    for problem in error.problems:
        structlog.get_logger("tnfd.config").error("config.refused", reason=str(problem), hint=hint)
    # launchd starts anew whatever leaves with another code, for ever.
    raise typer.Exit(EXIT_OK if launchd else EXIT_CONFIG)


def _rereader(config: Path | None) -> Reread:
    """Reads the same configuration again, as ``run`` read it."""
    from tnfd.config import load_config, require_runnable
    from tnfd.config.advice import warnings_of

    def reread(watched: Collection[Path]) -> Config:
        loaded = load_config(config, os.environ, watched=watched)
        require_runnable(loaded)
        _warn(warnings_of(loaded, os.environ))
        return loaded

    return reread


def _warn(warnings: Iterable[str]) -> None:
    import structlog

    for warning in warnings:
        structlog.get_logger("tnfd.config").warning("config.warning", reason=warning)


async def _run_and_leave(daemon: Coroutine[Any, Any, int]) -> NoReturn:
    """Leave right after the daemon has: the interpreter would wait for threads that hang on a share."""
    code = await daemon
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
