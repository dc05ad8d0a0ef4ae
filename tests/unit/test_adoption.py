"""What is believed of another tnfd's work: of its status file, and of its transcript."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.model import EngineChoice, Gap, JobSettings, JobState, OutputFile, Segment, Transcript, Word
from tnfd.rules.adopt import ForeignStatus
from tnfd.rules.adoption import Adopt, adoption_of, decide_adoption, plausible_outputs
from tnfd.rules.formats import RENDERERS, RenderInput
from tnfd.rules.names import candidate_names, edited_names
from tnfd.rules.reread import parse_transcript

SHA, OTHER = "0f" * 32, "1e" * 32
SETTINGS = JobSettings((EngineChoice("lan", "openai", "x"),), formats=("txt",))
TXT, JSON = OutputFile("txt", b"talk.txt", SHA), OutputFile("json", b"talk.json", OTHER)


def a_status(**changes: Any) -> ForeignStatus:
    status = ForeignStatus(
        "01J0", JobState.DONE, "nas-1", "9f2c", b"talk.mp3", 1000, SHA, (TXT,), None, None, "none", (), (), ()
    )
    return replace(status, **changes)


def plausible(
    status: ForeignStatus, name: bytes = b"talk.mp3", **settings: Any
) -> tuple[OutputFile, ...] | None:
    return plausible_outputs(
        status, replace(SETTINGS, **settings), source_name=name, size_bytes=1000, sha256=SHA
    )


@pytest.mark.parametrize("state", JobState)
def test_only_finished_work_counts(state: JobState) -> None:
    finished = state in (JobState.DONE, JobState.PARTIAL, JobState.DUPLICATE)
    assert (plausible(a_status(state=state)) is not None) is finished


@pytest.mark.parametrize("changes", [{"sha256": OTHER}, {"sha256": None}, {"source_size_bytes": 999}])
def test_only_work_on_this_content_counts(changes: dict[str, Any]) -> None:
    assert plausible(a_status(**changes)) is None


@pytest.mark.parametrize(
    "name",
    [
        b"talk.txt",
        b"Talk.TXT",
        b"talk.mp3.txt",
        b"talk.mp3 (2).txt",
        b"talk (2).txt",
        b"talk.mp3 (9).txt",
    ],
)
def test_names_that_tnfd_gives_are_plausible(name: bytes) -> None:
    assert plausible(a_status(outputs=(OutputFile("txt", name, SHA),))) is not None
    outputs = plausible(a_status(outputs=(OutputFile("txt", name, SHA),)))
    assert outputs == (OutputFile("txt", name, SHA),)


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("txt", b"diary.txt"),
        ("txt", b"talk.mp3"),
        ("txt", b"talk.srt"),
        ("json", b"talk.mp3.status.json"),
        ("txt", b"talks.txt"),
        ("txt", b"another talk.txt"),
        ("exe", b"talk.exe"),
        ("txt", b"talk (99999).txt"),
    ],
)
def test_names_of_other_people_s_files_are_not(format: str, name: bytes) -> None:
    assert plausible(a_status(outputs=(OutputFile(format, name, SHA),))) == ()


@given(
    st.binary(min_size=1, max_size=250).filter(
        lambda name: not set(name) & set(b"/\0") and name not in (b".", b"..")
    ),
    st.sampled_from(["{stem}.{ext}", "{name}.{ext}", "{stem}.{lang}.{ext}", "{lang}-{stem}.{ext}"]),
    st.sampled_from([None, "en"]),
    st.integers(0, 3),
)
def test_whatever_name_tnfd_gave_it_finds_again(name: bytes, form: str, lang: str | None, which: int) -> None:
    names = candidate_names(name, "txt", form, lang, SHA)
    given_name = [next(names) for _ in range(which + 1)][-1]
    edited = next(iter(edited_names(next(candidate_names(name, "txt", form, lang, SHA)), name, SHA)))
    for one in (given_name, edited):
        status = a_status(outputs=(OutputFile("txt", one, SHA),), languages=() if lang is None else (lang,))
        assert plausible(status, name, name_format=form) == status.outputs


@pytest.mark.parametrize(
    ("formats", "intact", "expected"),
    [
        (("txt",), {"txt", "json"}, Adopt(JobState.DONE, (TXT, JSON), ())),
        (("txt",), {"txt"}, Adopt(JobState.DONE, (TXT,), ())),
        (("txt", "srt"), {"json"}, Adopt(JobState.DONE, (JSON,), ("txt", "srt"))),
        (("txt", "srt"), {"txt"}, None),
        (("txt",), set(), None),
    ],
)
def test_what_is_there_decides(formats: tuple[str, ...], intact: set[str], expected: Adopt | None) -> None:
    status = a_status(outputs=(TXT, JSON))
    assert decide_adoption(status, replace(SETTINGS, formats=formats), status.outputs, intact) == expected


def test_partial_work_stays_partial() -> None:
    found = decide_adoption(a_status(state=JobState.PARTIAL), SETTINGS, (TXT,), {"txt"})
    assert found is not None
    assert found.state is JobState.PARTIAL


def test_a_copy_without_outputs_counts_only_where_that_is_asked_for() -> None:
    skip = replace(SETTINGS, on_duplicate="skip")
    bare = a_status(state=JobState.DUPLICATE, outputs=())
    assert decide_adoption(bare, skip, (), set()) == Adopt(JobState.DUPLICATE, (), ())
    assert decide_adoption(bare, SETTINGS, (), set()) is None
    assert decide_adoption(replace(bare, state=JobState.DONE), skip, (), set()) is None
    lost = replace(bare, outputs=(TXT,))  # it had outputs once: they were thrown away, or edited
    assert decide_adoption(lost, skip, (TXT,), set()) is None


def test_what_is_shown_is_what_the_status_file_said() -> None:
    adoption = adoption_of(a_status(languages=("en",), timestamps="engine"))
    assert (adoption.instance, adoption.job) == ("nas-1", "01J0")
    assert (adoption.languages, adoption.timestamps) == (("en",), "engine")


# -- the transcript ---------------------------------------------------------------------------------------

_span = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)).map(
    lambda ms: sorted(one / 1000 for one in ms)
)
_plain = st.text(st.characters(categories=("L", "N", "Zs")), max_size=20).map(
    lambda text: " ".join(text.split())
)
_words = st.builds(lambda span, text: Word(span[0], span[1], text), _span, _plain)
_segments = st.builds(
    lambda span, text, speaker, words: Segment(span[0], span[1], text, speaker, words),
    _span, _plain, _plain | st.none(), st.lists(_words, max_size=3).map(tuple) | st.none(),
)  # fmt: skip
_transcripts = st.builds(
    Transcript,
    text=_plain,
    segments=st.lists(_segments, max_size=3).map(tuple),
    duration_s=st.integers(0, 10**6).map(lambda ms: ms / 1000),
    languages=st.sampled_from([(), ("en",), ("en", "de")]),
    timestamps=st.sampled_from(["engine", "aligned", "estimated", "none"]),
    flags=st.sampled_from([(), ("repetition",)]),
    gaps=st.lists(st.builds(lambda span: Gap(span[0], span[1], "engine.timeout"), _span), max_size=2).map(
        tuple
    ),
)


def written(transcript: Transcript) -> bytes:
    return RENDERERS["json"](RenderInput(transcript, b"talk.mp3", SHA, None))


@given(_transcripts)
def test_a_transcript_comes_back_as_it_was_written(transcript: Transcript) -> None:
    assert parse_transcript(written(transcript), sha256=SHA) == transcript


def test_another_recording_s_transcript_is_refused() -> None:
    assert parse_transcript(written(Transcript("words", (), 1.0)), sha256=OTHER) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "tnfd.transcript/2"}, {"source": SHA}, {"text": None}, {"duration_s": -1},
        {"duration_s": float("nan")}, {"duration_s": True}, {"timestamps": "guessed"}, {"languages": "en"},
        {"segments": {}}, {"segments": [1]}, {"gaps": [{"start_s": 2, "end_s": 1, "error": "x"}]},
        {"segments": [{"start_s": 0, "end_s": 1, "text": "x", "speaker": 1, "words": None}]},
        {"segments": [{"start_s": 0, "end_s": 1, "text": "x", "speaker": None, "words": [{"text": "x"}]}]},
    ],
)  # fmt: skip
def test_anything_odd_is_refused(changes: dict[str, Any]) -> None:
    whole = json.loads(written(Transcript("words", (), 1.0)))
    assert parse_transcript(json.dumps(whole).encode(), sha256=SHA) is not None
    assert parse_transcript(json.dumps(whole | changes).encode(), sha256=SHA) is None


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"1" * 5000, b"[" * 100_000])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    assert parse_transcript(data, sha256=SHA) is None
