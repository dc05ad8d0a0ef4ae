"""All checks in order: configuration, engines, inboxes, file events, state folder, daemon, service, clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tnfd.config import Config, EngineConfig, load_config
from tnfd.config.advice import warnings_of
from tnfd.config.places import find_file, overlaps
from tnfd.control import Control
from tnfd.doctor.engine import check_engine
from tnfd.doctor.finding import Finding, Mark
from tnfd.doctor.folder import check_inbox, check_state
from tnfd.doctor.limits import check_limits
from tnfd.doctor.media import check_media
from tnfd.doctor.server import Fetch, fetch
from tnfd.doctor.service import check_sandbox, check_service, service_environ, service_here
from tnfd.errors import ConfigError, StoreUnusable
from tnfd.ports.clock import Clock
from tnfd.service.target import Target

_BUILT = datetime(2026, 11, 1, tzinfo=UTC)  # a clock that is behind this was never set
_SLACK_S = 300.0


def examine(
    flag: Path | None, environ: Mapping[str, str], clock: Clock, ask: Fetch = fetch
) -> Iterator[Finding]:
    """Give findings one by one, as they are made; ``flag`` is ``--config``."""
    try:
        config = load_config(flag, environ, places=False)
    except ConfigError as error:
        why = "tnfd run starts with a configuration that has no mistake, and with no other"
        for problem in error.problems:
            yield Finding("configuration", Mark.FAIL, str(problem), why, "tnfd config check")
        yield from _clock(clock, None)
        return
    status, newest, trouble = _state(config, clock)
    yield from _configuration(config, flag, environ)
    target = service_here(environ)
    keys = service_environ(target, environ)
    for engine in config.engines.values():
        for finding in check_engine(engine, config, keys, clock.now(), ask):
            yield _of_service(finding, engine, target, status)
    live = {inbox["name"]: inbox for inbox in (status or {}).get("inboxes", ()) if inbox["mode"]}
    for inbox in config.inboxes:
        yield from check_inbox(inbox, live.get(inbox.name))
    yield from check_limits(config.inboxes)
    yield from check_state(config.daemon.state_dir, trouble)
    yield check_media()
    yield from _daemon(status)
    yield from check_service(target, config, environ, running=bool(status and status["running"]))
    yield from check_sandbox()
    yield from _clock(clock, newest)


def _of_service(
    finding: Finding, engine: EngineConfig, target: Target, status: dict[str, Any] | None
) -> Finding:
    """Without a key here there may be one that only the system's service reads; whether it works shows."""
    if finding.mark is not Mark.FAIL or not finding.what.startswith("no key") or not target.system:
        return finding
    running = status is not None and status["running"]
    found = [one for one in (status or {}).get("engines", ()) if one["name"] == engine.name]
    if not running or not found or found[0]["state"] == "paused":
        return finding
    return Finding(finding.area, Mark.OK, "the key is the service's alone to read, and it is not refused")


def _state(config: Config, clock: Clock) -> tuple[dict[str, Any] | None, datetime | None, str]:
    """What ``tnfd status`` says, the newest moment that the database knows, or why neither can be read."""
    try:
        with Control(config, clock) as control:
            latest = control.jobs(limit=1)
            return control.status(), latest[0].updated_at if latest else None, ""
    except StoreUnusable as error:
        return None, None, str(error)


def _configuration(config: Config, flag: Path | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    file = find_file(flag, environ)
    wrong = [f"{key}: {message}" for key, message in overlaps(config)]
    for text in wrong:
        yield Finding("configuration", Mark.FAIL, text, "tnfd run refuses that", "tnfd config check")
    try:
        # What concerns one engine, or where outputs go, is looked at more closely below.
        told = [text for text in warnings_of(config, environ) if not text.startswith("engine ")]
    except ConfigError:
        told = []
    for text in (text for text in told if "outputs cannot be written" not in text):
        why, mend = "it is allowed, but probably not what was meant", "tnfd config check"
        if text.startswith("no engine"):
            why, mend = "nothing can be transcribed without one", "tnfd init"
        yield Finding("configuration", Mark.WARN, text, why, mend)
    if not wrong:
        where = str(file) if file else "no file; defaults and the environment hold"
        yield Finding("configuration", Mark.OK, where)


def _daemon(status: dict[str, Any] | None) -> Iterator[Finding]:
    if status is None:
        return
    if not status["running"]:
        what, why = "not running", "files in the inboxes wait until it is"
        yield Finding("daemon", Mark.WARN, what, why, "tnfd service install   # or, for now: tnfd run")
    elif not status["healthy"]:
        why = "files in the inboxes may wait for ever"
        yield Finding(
            "daemon", Mark.FAIL, f"pid {status['pid']} does not answer as it should", why, "tnfd status"
        )
    else:
        yield Finding("daemon", Mark.OK, f"running (pid {status['pid']})")
    for said in status["attention"]:
        if not said.startswith("the daemon"):
            if " failed: " in said:
                yield Finding("daemon", Mark.WARN, said, "their transcripts are missing", "tnfd jobs")
            else:
                yield Finding("daemon", Mark.WARN, said, "files wait for it", "tnfd status")


def _clock(clock: Clock, newest: datetime | None) -> Iterator[Finding]:
    now = clock.now()
    mend = "sudo timedatectl set-ntp true"
    if now < _BUILT:
        why = "certificates are refused, and budgets count the wrong days"
        yield Finding("clock", Mark.FAIL, f"it says {_local(now)}, which is past", why, mend)
    elif newest is not None and (newest - now).total_seconds() > _SLACK_S:
        why = "it has been set back: ages and waits are shown wrong for a while, and budgets may count twice"
        yield Finding(
            "clock",
            Mark.WARN,
            f"{_local(now)}; the last job is of {_local(newest)}",
            why,
            mend,
        )
    else:
        yield Finding("clock", Mark.OK, _local(now))


def _local(at: datetime) -> str:
    """A moment on the clock on the wall, and which one that is."""
    return f"{at.astimezone():%Y-%m-%d %H:%M %Z}"
