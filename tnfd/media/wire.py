"""What is said between the three processes, as bytes; nothing here opens, sends or decides.

Daemon and nursery exchange fixed records of 16 bytes over the control socket (requests carry descriptors).
Daemon and child exchange JSON lines over the reply socket: one request down, events up, and one byte down for
each cut, when the next event is asked for. The child has just read a stranger's file, so the daemon believes
nothing that it has not checked here.
"""

from __future__ import annotations

import enum
import json
import re
import struct
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tnfd.errors import Fault
from tnfd.media.limits import MAX_AUDIO_S, MAX_CHANNELS, MAX_STREAMS
from tnfd.model import SAMPLE_RATE_HZ, Cut, Encoding, MediaInfo
from tnfd.ports.media import Decoded, MediaEvent, Probed
from tnfd.rules.cuts import OVERLAP, Limits, Stretch

MAX_LINE_BYTES = 8192
_SUFFIXES: dict[Encoding, str] = {"opus": "ogg", "pcm": "pcm", "wav": "wav"}
_ENCODINGS: dict[str, Encoding] = {suffix: encoding for encoding, suffix in _SUFFIXES.items()}

# -- daemon <-> nursery -----------------------------------------------------------------------------

_RECORD = struct.Struct("!cxxxIq")
RECORD_BYTES = _RECORD.size
DESCRIPTORS = 3  # reply socket, source, scratch folder


class Op(enum.Enum):
    """What a record says.

    ``value`` of ENDED is the wait status, of FAILED an errno (0: PyAV is missing), of UNWALLED which
    walls are missing (``confine``; 1: seccomp, 2: Landlock).
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
    limits: Limits
    audio_languages: tuple[str, ...] = ()
    wanted: tuple[Cut, ...] = ()
    stretches: tuple[Stretch, ...] = (Stretch(0, None),)
    next_index: int = 0
    by_channel: bool = False

    def line(self) -> bytes:
        """Return the order as one line."""
        return _line(
            {
                "encoding": self.encoding,
                "max_bytes": self.max_bytes,
                "limits": [min(self.limits.max_s, MAX_AUDIO_S), self.limits.slots],
                "audio_languages": list(self.audio_languages),
                "wanted": [
                    [cut.index, cut.start_sample, cut.end_sample, cut.file, 0, cut.torn_start, cut.torn_end]
                    for cut in self.wanted
                ],
                "stretches": [[one.start, one.end, one.torn_start, one.torn_end] for one in self.stretches],
                "next_index": self.next_index,
                "by_channel": self.by_channel,
            }
        )

    @classmethod
    def parse(cls, line: bytes) -> Order:
        """Read an order; it comes from the daemon and is trusted."""
        fields = json.loads(line)
        return cls(
            fields["encoding"],
            fields["max_bytes"],
            Limits(*fields["limits"]),
            tuple(fields["audio_languages"]),
            tuple(Cut(*cut) for cut in fields["wanted"]),
            tuple(Stretch(*one) for one in fields["stretches"]),
            fields["next_index"],
            fields["by_channel"],
        )


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
_MAX_CUTS = 999_999
_WORD = re.compile(r"[\w.+-]{1,40}", re.ASCII)


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
                    "channels": media.channels,
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
                    "torn": [event.torn_start, event.torn_end],
                }
            )
        case Decoded():
            return _line({"event": "decoded", "samples": event.samples, "bad_packets": event.bad_packets})
        case Fault():
            return _line({"event": "fault", "code": event.code, "detail": event.detail[:400]})


def cut_name(index: int, encoding: Encoding) -> str:
    """The file name of a cut: ``0000.ogg``."""
    return f"{index:04d}.{_SUFFIXES[encoding]}"


def encoding_of(file: str) -> Encoding:
    """How the file of a cut is encoded, by its name."""
    return _ENCODINGS[file.rpartition(".")[2]]


class Conversation:
    """Checks what one child says, line by line: types, ranges, order, and that its cuts are those ordered."""

    def __init__(self, order: Order) -> None:
        self._encoding = order.encoding
        self._probed = False
        self._wanted = {cut.index: cut for cut in order.wanted}
        self._next_index = order.next_index
        # Where the next cut of each stretch begins, and whether it is torn from the last one.
        self._begins = [(stretch, stretch.start, stretch.torn_start) for stretch in order.stretches]
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
            channels=_whole(fields.get("channels"), 1, MAX_CHANNELS),
        )

    def _cut(self, fields: dict[str, Any]) -> Cut:
        index = _whole(fields.get("index"), 0, _MAX_CUTS)
        start = _whole(fields.get("start"), 0, _MAX_SAMPLES)
        end = _whole(fields.get("end"), start + 1, _MAX_SAMPLES)
        file, torn = fields.get("file"), fields.get("torn")
        if torn not in ([False, False], [False, True], [True, False], [True, True]):
            raise Nonsense("ends that are neither torn nor not")
        known = self._wanted.pop(index, None)
        if known is None:
            self._check_new(index, start, end, *torn)
            name = cut_name(index, self._encoding)
        else:
            if (start, end, *torn) != (
                known.start_sample, known.end_sample, known.torn_start, known.torn_end
            ):  # fmt: skip
                raise Nonsense("another cut than the one asked for")
            name = known.file
        if file not in ("", name):
            raise Nonsense("a cut's file name")
        return Cut(index, start, end, str(file), 0, torn[0], torn[1], not file)

    def _check_new(self, index: int, start: int, end: int, torn_start: bool, torn_end: bool) -> None:
        if index != self._next_index:
            raise Nonsense("a cut out of order")
        for at, (stretch, begins, torn) in enumerate(self._begins):
            if begins == start and torn == torn_start and (stretch.end is None or end <= stretch.end):
                follows = end - OVERLAP if torn_end and end != stretch.end else end
                if follows <= start:
                    raise Nonsense("a cut that goes back")
                self._begins[at] = (stretch, follows, torn_end)
                self._next_index += 1
                return
        raise Nonsense("a cut of what was not asked for")

    def _decoded(self, fields: dict[str, Any]) -> Decoded:
        samples = _whole(fields.get("samples"), 0, _MAX_SAMPLES)
        if self._wanted:
            raise Nonsense("the end before all cuts")
        for stretch, begins, _ in self._begins:
            if stretch.end is None:
                # All of the recording is in cuts, or there was nothing behind those that are known.
                if begins != samples and not (begins == stretch.start and samples <= begins):
                    raise Nonsense("the end before all cuts")
            elif begins != stretch.end:
                raise Nonsense("the end before all cuts")
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
