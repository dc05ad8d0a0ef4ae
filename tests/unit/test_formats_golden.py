"""A whole interview in every format, as people get it.

``python -m tests.unit.test_formats_golden`` writes the files anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pysubs2
import pytest
import srt
import webvtt

from tnfd.model import EngineChoice, Gap, Segment, Transcript, Word
from tnfd.rules.formats import RENDERERS, RenderInput

FOLDER = Path(__file__).parents[1] / "data" / "formats"
FORMS = ("txt", "md", "srt", "vtt")


def interview() -> RenderInput:
    data = json.loads((FOLDER / "lighthouse.json").read_text(encoding="utf-8"))
    segments = tuple(
        Segment(
            one["start_s"], one["end_s"], one["text"], one["speaker"], tuple(Word(**w) for w in one["words"])
        )
        for one in data["segments"]
    )
    whole = Transcript(
        data["text"],
        segments,
        data["duration_s"],
        ("en",),
        "engine",
        (),
        tuple(Gap(**g) for g in data["gaps"]),
    )
    engine = EngineChoice(**data["engine"])
    return RenderInput(
        whole, data["source"]["name"].encode(), data["source"]["sha256"], engine, "2026-05-14T09:30:00Z"
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_interview_is_rendered_as_before(form: str) -> None:
    rendered = RENDERERS[form](interview()).decode()
    assert rendered == (FOLDER / f"lighthouse.{form}").read_text(encoding="utf-8")


def test_the_interview_keeps_the_conventions() -> None:
    cues = list(srt.parse((FOLDER / "lighthouse.srt").read_text(encoding="utf-8")))
    spoken = [cue for cue in cues if not cue.content.startswith("[not")]
    assert len(spoken) == len(cues) - 1
    for cue in spoken:
        shown_s = (cue.end - cue.start).total_seconds()
        assert 1 <= shown_s <= 7
        assert len(cue.content) / shown_s <= 17
        assert [line for line in cue.content.split("\n") if len(line) > 42] == []
        assert cue.content.count("\n") <= 1


def test_parsers_agree_on_the_interview() -> None:
    by_srt = list(srt.parse((FOLDER / "lighthouse.srt").read_text(encoding="utf-8")))
    by_pysubs2 = pysubs2.load(str(FOLDER / "lighthouse.srt"))
    by_webvtt = webvtt.read(str(FOLDER / "lighthouse.vtt")).captions
    assert [cue.content for cue in by_srt] == [cue.plaintext for cue in by_pysubs2]
    # The names stand in the text of the one and beside that of the other.
    assert [cue.content.removeprefix("Ann: ").removeprefix("Bob: ") for cue in by_srt] == [
        cue.text for cue in by_webvtt
    ]
    assert [cue.voice for cue in by_webvtt[:5]] == ["Ann", "Ann", "Ann", "Ann", "Bob"]


if __name__ == "__main__":
    for form in FORMS:
        (FOLDER / f"lighthouse.{form}").write_bytes(RENDERERS[form](interview()))
