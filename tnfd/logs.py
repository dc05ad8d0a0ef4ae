"""Log events: key/value lines for people, JSON for machines; transcript text and secrets never.

Everything goes to stderr. Under journald (``JOURNAL_STREAM``) each line carries its priority. A log that is a
plain file (launchd's, or a redirection) is kept from growing for ever.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
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


class Rotation:
    """Keeps a log that is a plain file small: ``log``, ``log.1`` (the one before), ..., each up to a size.

    The file is renamed and a new one takes its place under the same descriptors, so that what libraries and
    a traceback write goes on. Where that is not possible the file grows: a log is worth more than its size.
    """

    def __init__(self, path: str, fds: tuple[int, ...], *, most_bytes: int = 10 << 20, kept: int = 4) -> None:
        self._path = path
        self._fds = fds
        self._most_bytes = most_bytes
        self._kept = kept
        self._failed = False

    def look(self) -> None:
        """Rotate if the file has grown too large."""
        if self._failed or os.fstat(self._fds[0]).st_size < self._most_bytes:
            return
        try:
            self._rotate()
        except OSError:
            self._failed = True

    def _rotate(self) -> None:
        mode = stat.S_IMODE(os.fstat(self._fds[0]).st_mode)
        if not os.path.samestat(os.stat(self._path), os.fstat(self._fds[0])):
            raise FileNotFoundError(self._path)  # somebody else rotates it
        for number in range(self._kept, 1, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self._path}.{number - 1}", f"{self._path}.{number}")
        os.replace(self._path, f"{self._path}.1")
        fresh = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode)
        try:
            os.fchmod(fresh, mode)
            for fd in self._fds:
                os.dup2(fresh, fd)
        finally:
            os.close(fresh)


def rotation_of(stream: TextIO) -> Rotation | None:
    """The rotation of a stream that is a plain file with a known path; None: it is none.

    stdout and stderr are often the same file (launchd): both go to the new one.
    """
    try:
        fd = stream.fileno()
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or not found.st_nlink:
            return None
        path = _path_of(fd)
        same = [one for one in (1, 2) if one != fd and os.path.samestat(os.fstat(one), found)]
        if not os.path.samestat(os.stat(path), found):
            return None
    except (OSError, ValueError):
        return None
    return Rotation(path, (fd, *same))


def _path_of(fd: int) -> str:
    if sys.platform == "darwin":
        import fcntl

        return os.fsdecode(fcntl.fcntl(fd, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    return os.readlink(f"/proc/self/fd/{fd}")


class _Lines:
    """Writes lines; under journald with a priority in front, for ``people`` folded to their terminal."""

    def __init__(self, stream: TextIO, *, journal: bool, people: bool, rotation: Rotation | None) -> None:
        self._stream = stream
        self._people = people
        self._journal = journal
        self._rotation = rotation

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
            if self._rotation is not None:
                self._rotation.look()
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


_chain: list[Any] = []  # changed in place: loggers keep the list that they were bound with
_least = logging.INFO


def _filter(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if _LEVELS.get(method, logging.ERROR) < _least:
        raise structlog.DropEvent
    return event


def configure(
    log_format: str, level: str, *, environ: Mapping[str, str] = os.environ, rotate: bool = False
) -> None:
    """Set logging up, or set it up otherwise.

    ``log_format`` is auto, console or json; auto is console on a terminal. ``rotate``: this process lives
    long, and the log is its own.
    """
    global _least
    # Started without a stderr there is none: Python then has None there.
    stream: TextIO = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good
    journal = _is_journal(stream, environ)
    as_json = log_format == "json" or (log_format == "auto" and (journal or not stream.isatty()))
    _least = _LEVELS[level]
    _chain[:] = [
        _filter,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json, key="timestamp"),
        structlog.processors.format_exc_info,
        _mask_secrets,
        _in_order,
        *([_in_utc, structlog.processors.JSONRenderer()] if as_json else [_console]),
    ]
    lines = _Lines(
        stream, journal=journal, people=not as_json, rotation=rotation_of(stream) if rotate else None
    )
    structlog.configure(
        processors=_chain,
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=lambda *_args: lines,
        cache_logger_on_first_use=False,
    )
    # openai and its HTTP client log bodies and headers at debug: never let them through.
    logging.basicConfig(level=logging.WARNING, stream=stream, format="%(levelname)s %(name)s %(message)s")
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether what is written to the stream is on its way to journald (systemd.exec(5)).

    The variable alone does not tell: a shell below the service may have put a file in the stream's place.
    """
    if "JOURNAL_STREAM" not in environ:
        return False
    try:
        return not stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return True


def for_people(line: str) -> str:
    """A line of a JSON log as it reads on a terminal; what is none is returned as it is, made visible."""
    import json

    try:
        event = json.loads(line)
        at = datetime.fromisoformat(event["timestamp"]).astimezone()
        event["timestamp"] = f"{at:%Y-%m-%d %H:%M:%S}"
        return _console(None, "", event)
    except (ValueError, KeyError, TypeError):
        return _visible(line)
