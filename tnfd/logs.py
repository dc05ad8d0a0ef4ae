"""Log events: key/value lines for people, JSON for machines; transcript text and secrets never.

Everything goes to stderr. Under journald (``JOURNAL_STREAM``) each line carries its priority.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_SECRET = re.compile(r"\b(sk-[A-Za-z0-9_-]{8,}|Bearer\s+\S+)")


def mask(text: str) -> str:
    """Hide whatever looks like a key."""
    return _SECRET.sub("***", text)


_HANG = " " * len("16:02:11 warning ")
_LEAST_COLUMNS = 60  # below this, folding makes nothing more readable
_FIRST = ("timestamp", "level", "event", "job", "file")


def _in_order(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What everybody looks for comes first; what is not known is left out."""
    first = {key: event[key] for key in _FIRST if key in event}
    return {key: value for key, value in {**first, **event}.items() if value is not None}


def _mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = value if isinstance(value, datetime) else _masked(value)
    return event


def _masked(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime):
        return _utc(value)
    if isinstance(value, Mapping):
        return {str(key): _masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(item) for item in value]
    return mask(str(value))


def _in_utc(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Moments as machines want them."""
    for key, value in event.items():
        if isinstance(value, datetime):
            event[key] = _utc(value)
    return event


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _console(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """``16:02:11 info  job.finished  file=talk.mp3 took_s=3.1 job=01J``; control characters are escaped."""
    at, level, name = event.pop("timestamp"), event.pop("level"), event.pop("event")
    trace = "\n".join(map(_visible, event.pop("exception", "").split("\n")))
    if (job := event.pop("job", None)) is not None:
        event["job"] = job  # people know files; the long id comes last
    pairs = " ".join(f"{key}={_plain(value)}" for key, value in event.items() if value is not None)
    line = f"{at} {level:<7} {name:<16} {pairs}".rstrip()
    return f"{line}\n{trace}" if trace else line


def fold(line: str, columns: int) -> str:
    """Break a line for people between its words; what goes below stands under the name of the event."""
    lines = [""]
    for word in line.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if len(longer) <= columns or not lines[-1].strip():
            lines[-1] = longer
        else:
            lines[-1] = lines[-1].rstrip()
            lines.append(_HANG + word)
    return "\n".join(lines)


def _columns(stream: TextIO) -> int | None:
    """The width of the terminal that the stream is; None if it is none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else None
    except (OSError, ValueError):
        return None


def _plain(value: object) -> str:
    if isinstance(value, datetime):  # by the same clock as the beginning of the line
        return f"{value.astimezone():%Y-%m-%dT%H:%M:%S}"
    text = f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    text = _visible(text)
    return f'"{text}"' if " " in text or not text else text


def _visible(text: str) -> str:
    """A line in which nothing acts on a terminal."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


class _Lines:
    """Writes lines; under journald with a priority in front, for ``people`` folded to their terminal."""

    def __init__(self, stream: TextIO, *, journal: bool, people: bool) -> None:
        self._stream = stream
        self._people = people
        self._journal = journal

    def _write(self, level: str, message: str) -> None:
        if self._journal:
            prefix = f"<{_PRIORITY.get(level, 6)}>"
            message = "\n".join(prefix + line for line in message.splitlines())
        elif self._people and (columns := _columns(self._stream) or 0) >= _LEAST_COLUMNS:
            line, newline, trace = message.partition("\n")
            message = fold(line, columns) + newline + trace
        try:
            self._stream.write(message + "\n")
            self._stream.flush()
        except (OSError, ValueError) as error:
            # The terminal or pipe is gone, or the disk is full; work goes on, there is nowhere to say it.
            if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.EIO):
                self._hang_up()

    def _hang_up(self) -> None:
        """Nobody will ever read again; what is left in the buffer must not spoil the exit code (120)."""
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, level: str) -> Any:
        return lambda message: self._write(level, message)


def configure(log_format: str, level: str, *, environ: Mapping[str, str] = os.environ) -> None:
    """Set logging up: ``log_format`` is auto, console or json; auto is console on a terminal."""
    # Started without a stderr there is none: Python then has None there.
    stream: TextIO = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good
    journal = "JOURNAL_STREAM" in environ
    as_json = log_format == "json" or (log_format == "auto" and (journal or not stream.isatty()))
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json, key="timestamp"),
        structlog.processors.format_exc_info,
        _mask_secrets,
        _in_order,
    ]
    structlog.configure(
        processors=[*shared, *([_in_utc, structlog.processors.JSONRenderer()] if as_json else [_console])],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_args: _Lines(stream, journal=journal, people=not as_json),
        cache_logger_on_first_use=False,
    )
    # openai and its HTTP client log bodies and headers at debug: never let them through.
    logging.basicConfig(level=logging.WARNING, stream=stream, format="%(levelname)s %(name)s %(message)s")
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.ERROR)
