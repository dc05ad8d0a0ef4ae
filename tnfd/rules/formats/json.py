"""JSON of schema ``tnfd.transcript/1`` (``tnfd/schemas/transcript-1.schema.json``): all that is known."""

from __future__ import annotations

import json
from typing import Any

from tnfd.model import Doubt, Gap, Segment
from tnfd.rules.formats.input import RenderInput
from tnfd.rules.names import name_base64, printable
from tnfd.rules.text import clean

SCHEMA = "tnfd.transcript/1"


def render(given: RenderInput) -> bytes:
    """Return the file's bytes. Times are seconds, rounded to milliseconds."""
    transcript, engine = given.transcript, given.engine
    source = {"name": printable(given.source_name), "sha256": given.sha256}
    if (encoded := name_base64(given.source_name)) is not None:
        source["name_base64"] = encoded
    whole = {
        "schema": SCHEMA,
        "source": source,
        "duration_s": round(transcript.duration_s, 3),
        "languages": [clean(language) for language in transcript.languages],
        "engine": engine and {"name": engine.name, "type": engine.type, "model": engine.model},
        "timestamps": transcript.timestamps,
        "flags": list(transcript.flags),
        "text": clean(transcript.text),
        "segments": [_segment(segment) for segment in transcript.segments],
        "gaps": [_gap(gap) for gap in transcript.gaps],
        "doubts": [_doubt(doubt) for doubt in transcript.doubts],
    }
    return (json.dumps(whole, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode()


def _segment(segment: Segment) -> dict[str, Any]:
    words = segment.words
    return {
        "start_s": round(segment.start_s, 3),
        "end_s": round(segment.end_s, 3),
        "text": clean(segment.text),
        "speaker": None if segment.speaker is None else clean(segment.speaker),
        "words": None
        if words is None
        else [
            {"start_s": round(word.start_s, 3), "end_s": round(word.end_s, 3), "text": clean(word.text)}
            for word in words
        ],
    }


def _doubt(doubt: Doubt) -> dict[str, Any]:
    return {"start_s": round(doubt.start_s, 3), "end_s": round(doubt.end_s, 3), "flag": doubt.flag}


def _gap(gap: Gap) -> dict[str, Any]:
    return {"start_s": round(gap.start_s, 3), "end_s": round(gap.end_s, 3), "error": gap.error}
