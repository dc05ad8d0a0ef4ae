"""What servers answer, read tolerantly: bytes in, text and times out. Pure; never raises but NotUnderstood.

Servers that speak the same API differ in details (words keyed ``word`` or ``text``, numbers as strings, null
languages, empty segment lists, plain text for JSON). Text is never lost to bad times: times that make no
sense are mended from their neighbours, and dropped altogether where most of them make none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tnfd.engines.languages import code_of
from tnfd.model import Segment, Word

_LATE_S = 30.0  # how far behind the end a time may lie before it counts as nonsense


@dataclass(frozen=True, slots=True)
class Answer:
    """One understood answer. ``audio_s``: the seconds that the server's usage counts, where it says so."""

    text: str
    segments: tuple[Segment, ...] = ()
    languages: tuple[str, ...] = ()
    audio_s: float | None = None


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The parts of an error object; empty where the server names none."""

    code: str = ""
    type: str = ""
    message: str = ""
    param: str = ""


class NotUnderstood(ValueError):
    """An answer with a good status that is no transcript. The message never quotes the answer."""

    def __init__(self, why: str, error: ErrorBody | None = None) -> None:
        self.error = error or ErrorBody()
        super().__init__(why)


def read_answer(body: bytes, *, content_type: str = "", duration_s: float) -> Answer:
    """Read a transcript of audio that is ``duration_s`` long.

    Raises:
        NotUnderstood: it is none; ``error`` holds the error object if the body is one.
    """
    raw = body.decode("utf-8-sig", "replace").strip()
    if not raw:
        raise NotUnderstood("the answer is empty")
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        data = _plain_text(raw, content_type)
    if isinstance(data, str):
        return Answer(tidy(data))
    if not isinstance(data, dict):
        raise NotUnderstood("the answer is JSON, but no transcript")
    return read_object(data, duration_s)


def _plain_text(raw: str, content_type: str) -> str:
    """Some servers answer the bare text whatever was asked for; broken JSON and HTML must not pass for it."""
    if raw[0] in "{[":
        raise NotUnderstood("the answer is broken JSON")
    if raw[0] == "<" or "html" in content_type:
        raise NotUnderstood("the answer is an HTML page")
    if not content_type.startswith("text/plain"):
        raise NotUnderstood("the answer is neither JSON nor text")
    return raw


def read_object(data: dict[str, Any], duration_s: float) -> Answer:
    """The same of an object that was parsed already."""
    text = data.get("text")
    segments = _read_segments(data, duration_s)
    if not isinstance(text, str):
        if data.get("error") or data.get("detail"):
            error = read_error(json.dumps(data).encode())
            raise NotUnderstood("the answer is an error with a good status", error)
        if not segments:
            raise NotUnderstood("the answer holds no text")
        text = " ".join(segment.text for segment in segments)
    text = tidy(text)
    if not _covers(segments, text):
        segments = ()
    named = data.get("languages") if isinstance(data.get("languages"), list) else [data.get("language")]
    languages = tuple(dict.fromkeys(code for code in map(code_of, named or ()) if code))
    return Answer(text, segments, languages, _counted_s(data.get("usage")))


def _counted_s(usage: object) -> float | None:
    if not isinstance(usage, dict):
        return None
    seconds = number(usage.get("seconds"))
    return seconds if seconds is not None and 0 <= seconds < 10 * 24 * 3600 else None


# -- times ----------------------------------------------------------------------------------------------


def _read_segments(data: dict[str, Any], duration_s: float) -> tuple[Segment, ...]:
    rows = [row for row in _rows(data.get("segments")) if tidy(row.get("text"))]
    nested = [word for row in rows for word in _rows(row.get("words"))]
    words = _read_words(_rows(data.get("words")) or nested, duration_s)
    spans = _spans(rows, duration_s)
    if not spans:
        if rows or not words:
            return ()  # the text stands without times; words alone would not carry its punctuation
        return (
            Segment(words[0].start_s, words[-1].end_s, " ".join(word.text for word in words), None, words),
        )
    shares = _share_out(words, spans)
    return tuple(
        Segment(start_s, end_s, tidy(row.get("text")), tidy(row.get("speaker")) or None, share or None)
        for row, (start_s, end_s), share in zip(rows, spans, shares, strict=True)
    )


def _covers(segments: Sequence[Segment], text: str) -> bool:
    """Whether the segments hold (nearly) all of the text; only then may they stand for it."""
    held = sum(len("".join(segment.text.split())) for segment in segments)
    return held >= 0.9 * len("".join(text.split()))


def _rows(value: object) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _read_words(rows: Sequence[dict[str, Any]], duration_s: float) -> tuple[Word, ...]:
    named = [(row, tidy(row.get("word")) or tidy(row.get("text"))) for row in rows]
    named = [(row, text) for row, text in named if text]
    spans = _spans([row for row, _ in named], duration_s)
    return tuple(
        Word(start_s, end_s, text) for (start_s, end_s), (_, text) in zip(spans, named, strict=False)
    )


def _spans(rows: Sequence[dict[str, Any]], duration_s: float) -> list[tuple[float, float]]:
    """Start and end of each row, in order and within the audio; empty if most of them make no sense."""
    starts = [_plausible(row.get("start"), duration_s) for row in rows]
    ends = [_plausible(row.get("end"), duration_s) for row in rows]
    if sum(time is None for time in starts + ends) > len(rows):
        return []
    spans: list[tuple[float, float]] = []
    at = 0.0
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if start is None:
            start = spans[-1][1] if spans else 0.0
        start = max(start, at)
        if end is None:
            end = starts[index + 1] if index + 1 < len(starts) else None
        end = max(start if end is None else end, start)
        spans.append((start, end))
        at = start
    return spans


def _plausible(value: object, duration_s: float) -> float | None:
    seconds = number(value)
    if seconds is None or not -1.0 <= seconds <= duration_s + _LATE_S:
        return None
    return min(max(seconds, 0.0), duration_s)


def _share_out(words: Sequence[Word], spans: Sequence[tuple[float, float]]) -> list[tuple[Word, ...]]:
    """Give each word to the segment that its middle lies in, or to the last one that began before it."""
    shares: list[list[Word]] = [[] for _ in spans]
    borders = [(here[1] + after[0]) / 2 for here, after in pairwise(spans)]
    index = 0
    for word in words:
        while index < len(borders) and (word.start_s + word.end_s) / 2 >= borders[index]:
            index += 1
        shares[index].append(word)
    return [tuple(share) for share in shares]


def number(value: object) -> float | None:
    """Return a finite number from a number or its string; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


# -- text -----------------------------------------------------------------------------------------------

_NOISE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def tidy(text: object) -> str:
    """Strip control characters but newline and tab; replace lone surrogates, which no file could hold."""
    if not isinstance(text, str):
        return ""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x85", "\n")
    return _SURROGATE.sub("\ufffd", _NOISE.sub("", text)).strip()


# -- errors ---------------------------------------------------------------------------------------------


def read_error(body: bytes) -> ErrorBody:
    """Read a refusal's body: an object under ``error`` or ``detail``, a list of them, or a bare string."""
    raw = body[:65536].decode("utf-8", "replace").strip()
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        is_page = raw[:1] == "<"
        return ErrorBody(message="an HTML page" if is_page else raw)
    if isinstance(data, dict):
        for key in ("error", "detail", "errors"):
            if data.get(key):
                inner = _error_of(data[key])
                # {"error": "text", "code": 17}: what the inner part lacks may stand beside it
                return inner if inner.code or not isinstance(data[key], str) else _beside(inner, data)
    return _error_of(data)


def _beside(inner: ErrorBody, data: dict[str, Any]) -> ErrorBody:
    return ErrorBody(
        _word(data.get("code")), _word(data.get("type")), inner.message, _word(data.get("param"))
    )


def _error_of(value: object) -> ErrorBody:
    if isinstance(value, str):
        return ErrorBody(message=value)
    if isinstance(value, list):
        return _error_of(value[0]) if value else ErrorBody()
    if not isinstance(value, dict):
        return ErrorBody()
    param = _word(value.get("param"))
    place = value.get("loc")  # FastAPI: {"loc": ["body", "response_format"], "msg": ..., "type": ...}
    if not param and isinstance(place, list) and place:
        param = _word(place[-1])
    message = value.get("message") or value.get("msg") or value.get("detail") or value.get("error")
    message = message or value.get("status")  # whisper.cpp: {"status": "loading model"}
    return ErrorBody(
        _word(value.get("code")),
        _word(value.get("type")),
        message if isinstance(message, str) else "",
        param,
    )


def _word(value: object) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
