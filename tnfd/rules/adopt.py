"""Reads a status file that another tnfd wrote, or this one before its state folder was lost.

Trusts nothing in it: anybody who may write into the inbox may have written it. Never touches a disk.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from tnfd.model import EngineChoice, Gap, JobState, MediaInfo, OutputFile, Timestamps
from tnfd.rules.status import SCHEMA

MAX_STATUS_BYTES = 1_000_000
MAX_GAPS = 10_000

_SHA256 = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # formats, flags, languages, codes, ids


@dataclass(frozen=True, slots=True)
class ForeignStatus:
    """What a status file says. Nothing of it is verified but its form."""

    job: str
    state: JobState
    instance: str
    profile: str
    source_name: bytes
    source_size_bytes: int
    sha256: str | None
    outputs: tuple[OutputFile, ...]  # each with a sha256
    media: MediaInfo | None
    engine: EngineChoice | None
    timestamps: Timestamps | None
    languages: tuple[str, ...]
    gaps: tuple[Gap, ...]
    flags: tuple[str, ...]
    updated_at: str = ""


class _Malformed(Exception):
    """The data is not a status file of ours."""


def parse_status(data: bytes) -> ForeignStatus | None:
    """Return what a status file says, or None for anything that is not whole and sound."""
    try:
        return _parsed(_loaded(data))
    except _Malformed:
        return None


def status_owner(data: bytes) -> tuple[str, bytes] | None:
    """Return job id and source name of a status file of our schema, however odd the rest of it is.

    None for anything else. This decides whose a file is; ``parse_status``, whether it can be believed.
    """
    try:
        whole = _loaded(data)
        return _text(whole, "job"), _file_name(_table(whole, "source"))
    except _Malformed:
        return None


def _loaded(data: bytes) -> Mapping[str, Any]:
    if len(data) > MAX_STATUS_BYTES:
        raise _Malformed("size")
    try:
        whole = json.loads(data)
    # ValueError: not JSON, not UTF-8, a number of 5,000 digits; RecursionError: "[[[[..." a million times.
    except (ValueError, RecursionError) as error:
        raise _Malformed("json") from error
    if not isinstance(whole, dict) or whole.get("schema") != SCHEMA:
        raise _Malformed("schema")
    return whole


def _parsed(whole: Mapping[str, Any]) -> ForeignStatus:
    source = _table(whole, "source")
    timestamps = whole.get("timestamps")
    if timestamps is not None and timestamps not in get_args(Timestamps):
        raise _Malformed("timestamps")
    sha256 = source.get("sha256")
    return ForeignStatus(
        job=_word(whole.get("job")),
        state=_state(whole),
        instance=_text(whole, "instance"),
        profile=_text(whole, "profile"),
        source_name=_file_name(source),
        source_size_bytes=_count(source, "size_bytes"),
        sha256=None if sha256 is None else _sha256(sha256),
        outputs=tuple(
            OutputFile(_word(name), _file_name(entry), _sha256(entry.get("sha256")))
            for name, entry in _tables(_table(whole, "outputs"))
        ),
        media=_media(whole),
        engine=_engine(whole),
        timestamps=timestamps,
        languages=tuple(_word(item) for item in _items(whole, "languages")),
        gaps=tuple(_gap(item) for item in _items(whole, "gaps")),
        flags=tuple(_word(item) for item in _items(whole, "flags")),
        updated_at=_text(whole, "updated_at") if "updated_at" in whole else "",
    )


def _state(whole: Mapping[str, Any]) -> JobState:
    try:
        return JobState(_text(whole, "state"))
    except ValueError as error:
        raise _Malformed("state") from error


def _media(whole: Mapping[str, Any]) -> MediaInfo | None:
    if whole.get("media") is None:
        return None
    media = _table(whole, "media")
    duration_s = None if media.get("duration_s") is None else _number(media, "duration_s")
    decoded_s = None if media.get("decoded_s") is None else _number(media, "decoded_s")
    return MediaInfo(
        _text(media, "container"), _text(media, "codec"), duration_s, _count(media, "audio_streams"),
        decoded_s=decoded_s,
    )  # fmt: skip


def _engine(whole: Mapping[str, Any]) -> EngineChoice | None:
    if whole.get("engine") is None:
        return None
    engine = _table(whole, "engine")
    return EngineChoice(_text(engine, "name"), _text(engine, "type"), _text(engine, "model"))


def _gap(item: object) -> Gap:
    if not isinstance(item, dict):
        raise _Malformed("gap")
    start_s, end_s = _number(item, "start_s"), _number(item, "end_s")
    if end_s < start_s:
        raise _Malformed("gap")
    return Gap(start_s, end_s, _word(item.get("error")))


def _file_name(entry: Mapping[str, Any]) -> bytes:
    """Return a single component of a path; anything that would lead elsewhere is malformed."""
    encoded = entry.get("name_base64")
    if encoded is None:
        try:
            name = _text(entry, "name").encode()
        except UnicodeEncodeError as error:  # JSON can spell a lone surrogate
            raise _Malformed("name") from error
    elif isinstance(encoded, str):
        try:
            name = base64.b64decode(encoded, validate=True)
        except ValueError as error:  # not ASCII, or not base64 (binascii.Error)
            raise _Malformed("name_base64") from error
    else:
        raise _Malformed("name_base64")
    if not 1 <= len(name) <= 255 or name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise _Malformed("name")
    return name


def _table(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    if not isinstance(value, dict):
        raise _Malformed(key)
    return value


def _tables(parent: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(key, _table(parent, key)) for key in parent]


def _items(parent: Mapping[str, Any], key: str) -> list[object]:
    value = parent.get(key)
    if not isinstance(value, list) or len(value) > MAX_GAPS:
        raise _Malformed(key)
    return value


def _text(parent: Mapping[str, Any], key: str) -> str:
    value = parent.get(key)
    if not isinstance(value, str) or len(value) > 4096:
        raise _Malformed(key)
    return value


def _word(value: object) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise _Malformed("word")
    return value


def _sha256(value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise _Malformed("sha256")
    return value


def _count(parent: Mapping[str, Any], key: str) -> int:
    value = parent.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise _Malformed(key)
    return value


def _number(parent: Mapping[str, Any], key: str) -> float:
    value = parent.get(key)
    # The bounds also keep out NaN, which compares false, and an int that no float can hold.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e9:
        raise _Malformed(key)
    return float(value)
