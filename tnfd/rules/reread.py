"""Reads a transcript back from its JSON form (schema ``tnfd.transcript/1``), to render other formats from it.

Trusts nothing in it, as ``rules.adopt``. Never touches a disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from tnfd.model import Doubt, Gap, Segment, Timestamps, Transcript, Word
from tnfd.rules.formats.json import SCHEMA

MAX_TRANSCRIPT_BYTES = 64 * 1024 * 1024  # 100 hours with times for each word take about 50 MB


class _Malformed(Exception):
    """The data is not a transcript of ours."""


def parse_transcript(data: bytes, *, sha256: str) -> Transcript | None:
    """Return the transcript of the recording with this hash; None for what is not whole and sound."""
    try:
        whole = json.loads(data)
        if not isinstance(whole, dict) or whole.get("schema") != SCHEMA:
            return None
        if _table(whole.get("source")).get("sha256") != sha256:
            return None
        return Transcript(
            text=_text(whole.get("text")),
            segments=tuple(_segment(_table(one)) for one in _items(whole.get("segments"))),
            duration_s=_seconds(whole.get("duration_s")),
            languages=tuple(_text(one) for one in _items(whole.get("languages"))),
            timestamps=_timestamps(whole.get("timestamps")),
            flags=tuple(_text(one) for one in _items(whole.get("flags"))),
            gaps=tuple(_gap(_table(one)) for one in _items(whole.get("gaps"))),
            doubts=tuple(_doubt(_table(one)) for one in _items(whole.get("doubts", []))),
        )
    # ValueError: not JSON, not UTF-8, a number of 5,000 digits; RecursionError: "[[[[..." a million times.
    except (_Malformed, ValueError, RecursionError):
        return None


def _segment(raw: Mapping[str, Any]) -> Segment:
    speaker, words = raw.get("speaker"), raw.get("words")
    start_s, end_s = _span(raw)
    return Segment(
        start_s,
        end_s,
        _text(raw.get("text")),
        None if speaker is None else _text(speaker),
        None if words is None else tuple(_word(_table(one)) for one in _items(words)),
    )


def _word(raw: Mapping[str, Any]) -> Word:
    return Word(*_span(raw), _text(raw.get("text")))


def _gap(raw: Mapping[str, Any]) -> Gap:
    return Gap(*_span(raw), _text(raw.get("error")))


def _doubt(raw: Mapping[str, Any]) -> Doubt:
    return Doubt(_text(raw.get("flag")), *_span(raw))


def _span(raw: Mapping[str, Any]) -> tuple[float, float]:
    start_s, end_s = _seconds(raw.get("start_s")), _seconds(raw.get("end_s"))
    if end_s < start_s:
        raise _Malformed("span")
    return start_s, end_s


def _table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _Malformed("table")
    return value


def _items(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise _Malformed("list")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _Malformed("text")
    return value


def _timestamps(value: object) -> Timestamps:
    for known in get_args(Timestamps):
        if value == known:
            return known  # type: ignore[no-any-return]
    raise _Malformed("timestamps")


def _seconds(value: object) -> float:
    # The bounds also keep out NaN, which compares false.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e9:
        raise _Malformed("seconds")
    return float(value)
