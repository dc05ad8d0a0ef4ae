"""Log events: key/value lines for people, JSON for machines; transcript text and secrets never.

Everything goes to stderr. Under journald (``JOURNAL_STREAM``) each line carries its priority.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_SECRET = re.compile(r"\b(sk-[A-Za-z0-9_-]{8,}|Bearer\s+\S+)")


def mask(text: str) -> str:
    """Hide whatever looks like a key."""
    return _SECRET.sub("***", text)


def _mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = mask(value)
    return event


def _console(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """``16:02:11 info  job.finished  file=talk.mp3 took_s=3.1``; control characters are escaped."""
    at, level, name = event.pop("timestamp"), event.pop("level"), event.pop("event")
    trace = event.pop("exception", "")
    pairs = " ".join(f"{key}={_plain(value)}" for key, value in event.items() if value is not None)
    line = f"{at} {level:<7} {name:<16} {pairs}".rstrip()
    return f"{line}\n{trace}" if trace else line


def _plain(value: object) -> str:
    text = f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    text = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return f'"{text}"' if " " in text or not text else text


class _Lines:
    """Writes lines; under journald with a priority in front."""

    def __init__(self, stream: TextIO, *, journal: bool) -> None:
        self._stream = stream
        self._journal = journal

    def _write(self, level: str, message: str) -> None:
        if self._journal:
            prefix = f"<{_PRIORITY.get(level, 6)}>"
            message = "\n".join(prefix + line for line in message.splitlines())
        try:
            self._stream.write(message + "\n")
            self._stream.flush()
        except OSError:
            return  # the terminal or pipe is gone; work goes on, and there is nowhere to say it

    def __getattr__(self, level: str) -> Any:
        return lambda message: self._write(level, message)


def configure(log_format: str, level: str, *, environ: Mapping[str, str] = os.environ) -> None:
    """Set logging up: ``log_format`` is auto, console or json; auto is console on a terminal."""
    stream, journal = sys.stderr, "JOURNAL_STREAM" in environ
    as_json = log_format == "json" or (log_format == "auto" and (journal or not stream.isatty()))
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json, key="timestamp"),
        structlog.processors.format_exc_info,
        _mask_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer() if as_json else _console],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_args: _Lines(stream, journal=journal),
        cache_logger_on_first_use=False,
    )
    # openai and its HTTP client log bodies and headers at debug: never let them through.
    logging.basicConfig(level=logging.WARNING, stream=stream, format="%(levelname)s %(name)s %(message)s")
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.ERROR)
