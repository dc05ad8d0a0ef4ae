"""Rows and JSON columns to model records and back; knows no SQL and decides nothing."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from tnfd.model import (
    SAMPLE_RATE_HZ,
    Adoption,
    ChunkResult,
    Cut,
    Doubt,
    EngineChoice,
    ErrorInfo,
    FileRef,
    Gap,
    JobSettings,
    MediaInfo,
    Segment,
    StatKey,
    Transcript,
    Waiting,
    WaitReason,
    Word,
)

CLOCK_SLACK_S = 5.0  # what was noted further in the future than this says that the clock was set back


def moment(seconds: float | None) -> datetime | None:
    """A stored moment as an aware datetime."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def some_moment(seconds: float) -> datetime:
    """A stored moment that is never null."""
    return datetime.fromtimestamp(seconds, UTC)


def seconds(at: datetime | None) -> float | None:
    """An aware datetime as it is stored."""
    return None if at is None else at.timestamp()


def dump(record: object) -> str:
    """A record, or a list of them, as JSON."""
    text = json.dumps(record, default=_fields, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8 form, but JSON can spell it
        return json.dumps(record, default=_fields, separators=(",", ":"))
    return text


def plain(text: str) -> str:
    """Text from outside as a TEXT column can hold it: lone surrogates are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _fields(record: object) -> dict[str, Any]:
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    raise TypeError(f"cannot store {type(record).__name__}")


def load_choice(text: str | None) -> EngineChoice | None:
    """An EngineChoice column."""
    return None if text is None else EngineChoice(**json.loads(text))


def load_settings(text: str) -> JobSettings:
    """A JobSettings column; keys that an older version did not write take their defaults."""
    raw = json.loads(text)
    raw["engines"] = tuple(EngineChoice(**choice) for choice in raw["engines"])
    for key in ("formats", "languages", "audio_languages", "keywords", "speaker_names", "speaker_samples"):
        raw[key] = tuple(raw.get(key, ()))
    return JobSettings(**raw)


def load_media(text: str | None, samples: int | None = None) -> MediaInfo | None:
    """A MediaInfo column, with the length that was decoded beside it."""
    if text is None:
        return None
    media = MediaInfo(**json.loads(text))
    return media if samples is None else media.evolve(decoded_s=samples / SAMPLE_RATE_HZ)


def load_adoption(text: str | None) -> Adoption | None:
    """An Adoption column."""
    if text is None:
        return None
    raw = json.loads(text)
    raw["media"] = None if raw["media"] is None else MediaInfo(**raw["media"])
    raw["engine"] = None if raw["engine"] is None else EngineChoice(**raw["engine"])
    raw["languages"] = tuple(raw["languages"])
    raw["gaps"] = tuple(Gap(**gap) for gap in raw["gaps"])
    return Adoption(**raw)


def load_error(text: str | None) -> ErrorInfo | None:
    """An ErrorInfo column."""
    return None if text is None else ErrorInfo(**json.loads(text))


def load_result(text: str) -> ChunkResult:
    """A ChunkResult column."""
    raw = json.loads(text)
    raw["segments"] = tuple(_segment(entry) for entry in raw["segments"])
    raw["languages"] = tuple(raw["languages"])
    raw["flags"] = tuple(raw["flags"])
    raw["doubts"] = tuple(Doubt(**doubt) for doubt in raw["doubts"])
    return ChunkResult(**raw)


def load_transcript(text: str | None) -> Transcript | None:
    """A Transcript column."""
    if text is None:
        return None
    raw = json.loads(text)
    raw["segments"] = tuple(_segment(entry) for entry in raw["segments"])
    raw["gaps"] = tuple(Gap(**gap) for gap in raw["gaps"])
    raw["languages"] = tuple(raw["languages"])
    raw["flags"] = tuple(raw["flags"])
    raw["doubts"] = tuple(Doubt(**doubt) for doubt in raw["doubts"])
    return Transcript(**raw)


def _segment(raw: dict[str, Any]) -> Segment:
    words = raw.pop("words")
    return Segment(**raw, words=None if words is None else tuple(Word(**word) for word in words))


def cut_of(row: sqlite3.Row) -> Cut:
    """A chunk row's plan."""
    return Cut(
        row["idx"], row["start_sample"], row["end_sample"], row["file"], row["size_bytes"],
        torn_start=bool(row["torn"] & 1), torn_end=bool(row["torn"] & 2), silent=bool(row["silent"]),
    )  # fmt: skip


def stat_values(stat: StatKey) -> tuple[int | str, ...]:
    """The stat columns dev, ino, size_bytes, mtime_ns, ctime_ns, each number exactly.

    SQLite's integers end at 2^63, file systems do not: FUSE and NFS use all 64 bits of an inode number, and
    the nanoseconds of the year 2263 are more than 63 bits.
    """
    return tuple(
        number if -(1 << 63) <= number < 1 << 63 else str(number)
        for number in (stat.dev, stat.ino, stat.size_bytes, stat.mtime_ns, stat.ctime_ns)
    )


def stat_key(values: Iterable[int | str]) -> StatKey:
    """What ``stat_values`` stored."""
    return StatKey(*map(int, values))


def stat_of(row: sqlite3.Row) -> StatKey:
    """The stat columns of a job or sight row."""
    return stat_key((row["dev"], row["ino"], row["size_bytes"], row["mtime_ns"], row["ctime_ns"]))


def ref_of(row: sqlite3.Row) -> FileRef:
    """The source of a job row."""
    return FileRef(row["root"], row["rel"], stat_of(row))


def waiting_of(row: sqlite3.Row) -> Waiting | None:
    """The waiting columns of a job row."""
    if row["waiting_reason"] is None:
        return None
    return Waiting(WaitReason(row["waiting_reason"]), moment(row["waiting_until"]), row["waiting_detail"])


def marks(values: Collection[object]) -> str:
    """As many placeholders as there are values."""
    return ",".join("?" * len(values))
