"""WebVTT subtitles (https://www.w3.org/TR/webvtt1/), with the speaker as the cue's voice where known."""

from __future__ import annotations

from tnfd.model import Doubt
from tnfd.rules.formats.cues import Cue, cues
from tnfd.rules.formats.input import RenderInput
from tnfd.rules.names import printable
from tnfd.rules.text import clean

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def render(given: RenderInput) -> bytes:
    """Return the file's bytes; the header alone where nothing was said and nothing is missing."""
    # A comment holds no escapes; the one thing that it must not hold is the arrow.
    source = " ".join(clean(printable(given.source_name)).split()).replace("-->", "-- >")
    notes = [_doubt(doubt) for doubt in given.transcript.doubts]
    blocks = ["WEBVTT\n", f"NOTE Source: {source}\n", *notes, *map(_block, cues(given.transcript))]
    return "\n".join(blocks).encode()


def _doubt(doubt: Doubt) -> str:
    start, end = (_clock(round(moment_s * 1000)) for moment_s in (doubt.start_s, doubt.end_s))
    return f"NOTE Doubtful: {doubt.flag}, {start} to {end}\n"


def _block(cue: Cue) -> str:
    text = "\n".join(cue.lines).translate(_ESCAPES)
    voice = "" if cue.speaker is None else f"<v {cue.speaker.translate(_ESCAPES)}>"
    return f"{_clock(cue.start_ms)} --> {_clock(cue.end_ms)}\n{voice}{text}\n"


def _clock(at_ms: int) -> str:
    seconds, ms = divmod(at_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{ms:03}"
