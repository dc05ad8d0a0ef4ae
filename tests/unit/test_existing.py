"""Which files beside a recording are transcripts of it."""

from __future__ import annotations

import pytest

from tnfd.rules.existing import transcripts_of
from tnfd.rules.names import fold


def beside(
    name: str, *others: str, formats: tuple[str, ...] = ("txt",), form: str = "{stem}.{ext}"
) -> list[str]:
    folded = frozenset(fold(other.encode()) for other in (name, *others))
    return list(transcripts_of(name.encode(), folded, formats, form))


@pytest.mark.parametrize(
    "other",
    ["talk.txt", "TALK.TXT", "talk.mp3.txt", "talk.srt", "talk.vtt", "talk.ass", "talk.en.srt",
     "talk.pt-BR.vtt", "talk.eng.forced.srt", "talk.lrc"],
)  # fmt: skip
def test_known_names_count_whatever_formats_are_asked_for(other: str) -> None:
    assert beside("talk.mp3", other, formats=("json",)) == [fold(other.encode())]


@pytest.mark.parametrize("other", ["talk.md", "talk.json"])
def test_notes_and_data_count_only_where_such_a_format_is_asked_for(other: str) -> None:
    assert beside("talk.mp3", other) == []
    assert beside("talk.mp3", other, formats=("md", "json")) == [other]


@pytest.mark.parametrize(
    "other",
    ["talks.txt", "talk 2.txt", "talk.mp4", "talk.jpg", "talk.notes.txt.bak", "other.srt", "talk.nfo",
     "talk.mp3.status.json", "talk.minutes.txt"],
)  # fmt: skip
def test_other_files_do_not(other: str) -> None:
    assert beside("talk.mp3", other, formats=("txt", "md", "json")) == []


def test_a_name_of_one_s_own_form_counts() -> None:
    assert beside("talk.mp3", "transcript of talk.txt", form="transcript of {stem}.{ext}")


def test_a_recording_is_not_its_own_transcript() -> None:
    assert beside("talk.txt.ts", formats=("txt",)) == []
    assert beside("movie.sub", formats=("txt",)) == []


def test_names_are_compared_as_people_mean_them() -> None:
    assert beside("Müller.mp3", "mu\u0308ller.txt") == ["müller.txt"]
