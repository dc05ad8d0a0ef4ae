"""What is said between the three processes, as bytes; nothing here opens, sends or decides.

Daemon and nursery exchange fixed records of 16 bytes over the control socket (requests carry descriptors).
Daemon and child exchange JSON lines over the reply socket: one request down, events up. The child has just
read a stranger's file, so the daemon believes nothing that it has not checked here.
"""

from __future__ import annotations

import enum
import json
import re
import struct
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from tnfd.errors import Fault
from tnfd.media.limits import MAX_AUDIO_S, MAX_STREAMS
from tnfd.model import SAMPLE_RATE_HZ, Cut, Encoding, MediaInfo
from tnfd.ports.media import Decoded, MediaEvent, Probed

MAX_LINE_BYTES = 8192
SUFFIXES: dict[Encoding, str] = {"opus": "ogg", "pcm": "pcm"}

# -- daemon <-> nursery -----------------------------------------------------------------------------

_RECORD = struct.Struct("!cxxxIq")
RECORD_BYTES = _RECORD.size
DESCRIPTORS = 3  # reply socket, source, scratch folder


class Op(enum.Enum):
    """What a record says. ``value`` of ENDED is the wait status, of FAILED an errno (0: PyAV is missing), of
    UNWALLED which walls are missing (``confine``; 1: seccomp, 2: Landlock).
    """

    SPAWN = b"s"  # daemon -> nursery, with DESCRIPTORS descriptors
    KILL = b"k"  # daemon -> nursery
    ENDED = b"e"  # nursery -> daemon: the child was reaped
    FAILED = b"f"  # nursery -> daemon: no child could be made
    UNWALLED = b"u"  # nursery -> daemon, at its start: children will be less confined than they should be


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the control socket; ``task`` is the daemon's number for a child."""

    op: Op
    task: int
    value: int = 0

    def pack(self) -> bytes:
        """Return RECORD_BYTES bytes."""
        return _RECORD.pack(self.op.value, self.task, self.value)

    @classmethod
    def unpack(cls, data: bytes) -> Record:
        """Read RECORD_BYTES bytes.

        Raises:
            ValueError: they are no record.
        """
        op, task, value = _RECORD.unpack(data)
        return cls(Op(op), task, value)


# -- daemon -> child --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """What the child shall do; see ``ports.PrepareRequest``."""

    encoding: Encoding
    max_bytes: int
    max_s: float
    audio_languages: tuple[str, ...] = ()

    def line(self) -> bytes:
        """Return the order as one line."""
        return _line(
            {
                "encoding": self.encoding,
                "max_bytes": self.max_bytes,
                "max_s": min(self.max_s, MAX_AUDIO_S),
                "audio_languages": list(self.audio_languages),
            }
        )

    @classmethod
    def parse(cls, line: bytes) -> Order:
        """Read an order; it comes from the daemon and is trusted."""
        fields = json.loads(line)
        return cls(fields["encoding"], fields["max_bytes"], fields["max_s"], tuple(fields["audio_languages"]))


# -- child -> daemon --------------------------------------------------------------------------------

# Codes that a child may raise; everything else in its place is nonsense.
_CHILD_CODES = frozenset(
    {
        "source.unreadable", "source.io", "media.not_media", "media.no_audio", "media.corrupt",
        "media.limits", "media.too_long", "output.disk_full", "output.io", "internal.bug",
    }
)  # fmt: skip
_MAX_SAMPLES = int(MAX_AUDIO_S * SAMPLE_RATE_HZ)
_MAX_BAD_PACKETS = 2**40
_WORD = re.compile(r"[\w.+-]{1,40}", re.ASCII)
_FILE = re.compile(r"\d{4,6}\.(?:ogg|pcm)", re.ASCII)


class Nonsense(ValueError):
    """The child said something that no working child says."""


def line_of(event: MediaEvent | Fault) -> bytes:
    """Return what the child sends for an event; the size of a cut is left for the daemon to look up."""
    match event:
        case Probed(media):
            return _line(
                {
                    "event": "probed",
                    "container": media.container,
                    "codec": media.codec,
                    "duration_s": media.duration_s,
                    "audio_streams": media.audio_streams,
                    "recorded_at": media.recorded_at,
                }
            )
        case Cut():
            return _line(
                {
                    "event": "cut",
                    "index": event.index,
                    "start": event.start_sample,
                    "end": event.end_sample,
                    "file": event.file,
                }
            )
        case Decoded():
            return _line({"event": "decoded", "samples": event.samples, "bad_packets": event.bad_packets})
        case Fault():
            return _line({"event": "fault", "code": event.code, "detail": event.detail[:400]})


def cut_name(index: int, encoding: Encoding) -> str:
    """The file name of a cut: ``0000.ogg``."""
    return f"{index:04d}.{SUFFIXES[encoding]}"


class Conversation:
    """Checks what one child says, line by line: types, ranges, order, and that cuts follow each other."""

    def __init__(self, encoding: Encoding) -> None:
        if encoding not in get_args(Encoding):
            raise ValueError(encoding)
        self._encoding = encoding
        self._probed = False
        self._cuts = 0
        self._end_sample = 0
        self._over = False

    def hear(self, line: bytes) -> MediaEvent:
        """Turn one line into an event. A Cut comes with ``size_bytes`` 0.

        Raises:
            Fault: the child reports it.
            Nonsense: the line is not what a working child says at this point.
        """
        fields = self._parse(line)
        if self._over:
            raise Nonsense("a line after the end")
        match fields.get("event"):
            case "fault":
                raise self._fault(fields)
            case "probed" if not self._probed:
                self._probed = True
                return Probed(self._media(fields))
            case "cut" if self._probed:
                return self._cut(fields)
            case "decoded" if self._probed:
                self._over = True
                return self._decoded(fields)
        raise Nonsense("an event out of place")

    @staticmethod
    def _parse(line: bytes) -> dict[str, Any]:
        if len(line) > MAX_LINE_BYTES:
            raise Nonsense("a line too long")
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Nonsense("a line that is not JSON") from error
        if not isinstance(fields, dict):
            raise Nonsense("a line that is not an object")
        return fields

    def _fault(self, fields: dict[str, Any]) -> Fault:
        self._over = True
        code, detail = fields.get("code"), fields.get("detail")
        if not isinstance(code, str) or code not in _CHILD_CODES or not isinstance(detail, str):
            raise Nonsense("an unknown fault")
        return Fault(code, "".join(c if c.isprintable() else " " for c in detail[:400]))

    @staticmethod
    def _media(fields: dict[str, Any]) -> MediaInfo:
        return MediaInfo(
            container=_word(fields.get("container")),
            codec=_word(fields.get("codec")),
            duration_s=_seconds(fields.get("duration_s")),
            audio_streams=_whole(fields.get("audio_streams"), 1, MAX_STREAMS),
            recorded_at=_moment(fields.get("recorded_at")),
        )

    def _cut(self, fields: dict[str, Any]) -> Cut:
        index = _whole(fields.get("index"), self._cuts, self._cuts)
        start = _whole(fields.get("start"), self._end_sample, self._end_sample)
        end = _whole(fields.get("end"), start + 1, _MAX_SAMPLES)
        file = fields.get("file")
        if not isinstance(file, str) or not _FILE.fullmatch(file) or file != cut_name(index, self._encoding):
            raise Nonsense("a cut's file name")
        self._cuts += 1
        self._end_sample = end
        return Cut(index, start, end, file, 0)

    def _decoded(self, fields: dict[str, Any]) -> Decoded:
        samples = _whole(fields.get("samples"), self._end_sample, self._end_sample)
        return Decoded(samples, _whole(fields.get("bad_packets"), 0, _MAX_BAD_PACKETS))


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _whole(value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise Nonsense("a number out of range")
    return value


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= 1e9:  # type: ignore[operator]
        raise Nonsense("a duration out of range")
    return float(value)  # type: ignore[arg-type]


def _word(value: object) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise Nonsense("a name that is none")
    return value


def _moment(value: object) -> str | None:
    if value is None:
        return None
    try:
        if not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is None:
            raise Nonsense("a moment that is none")
    except ValueError as error:
        raise Nonsense("a moment that is none") from error
    return value
