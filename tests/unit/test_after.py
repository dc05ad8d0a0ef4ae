"""What becomes of a recording: which ends let it be moved or deleted, and which keep it."""

from __future__ import annotations

from typing import Any

import pytest

from tnfd.model import EngineChoice, JobSettings, JobState
from tnfd.rules.after import Delete, Keep, Move, decide_after

ALL = frozenset({"txt", "json"})
FINAL = [state for state in JobState if state.final]


def decide(
    after: Any,
    state: JobState = JobState.DONE,
    flags: tuple[str, ...] = (),
    *,
    intact: frozenset[str] = ALL,
    adopted: bool = False,
) -> Keep | Move | Delete:
    settings = JobSettings(
        (EngineChoice("lan", "openai", "x"),),
        formats=("txt", "json"),
        after=after,
        done_dir="archive/2026",
        failed_dir="broken",
    )
    return decide_after(settings, state, flags, intact=intact, adopted=adopted)


@pytest.mark.parametrize("state", [JobState.DONE, JobState.DUPLICATE])
def test_what_is_done_goes_where_it_was_asked_to(state: JobState) -> None:
    assert decide("move", state) == Move(b"archive/2026")
    assert decide("delete", state) == Delete()
    assert isinstance(decide("keep", state), Keep)


def test_what_failed_is_moved_elsewhere_and_never_deleted() -> None:
    assert decide("move", JobState.FAILED, intact=frozenset()) == Move(b"broken")
    assert isinstance(decide("delete", JobState.FAILED), Keep)
    assert isinstance(decide("keep", JobState.FAILED), Keep)


@pytest.mark.parametrize("after", ["move", "delete"])
@pytest.mark.parametrize(
    "state", [JobState.PARTIAL, JobState.CANCELLED, JobState.VANISHED, JobState.QUEUED, JobState.RUNNING]
)
def test_no_other_end_lets_it_go(after: str, state: JobState) -> None:
    assert isinstance(decide(after, state), Keep)


@pytest.mark.parametrize("after", ["move", "delete"])
@pytest.mark.parametrize(
    "flag", ["draft", "no_speech", "repetition", "truncated_media", "coarse_timing", "not_known_yet"]
)
def test_a_flag_of_quality_keeps_it(after: str, flag: str) -> None:
    kept = decide(after, flags=("conflict_copy", flag))
    assert isinstance(kept, Keep)
    assert flag in kept.reason


def test_a_conflict_copy_says_nothing_of_quality() -> None:
    assert decide("delete", flags=("conflict_copy",)) == Delete()


@pytest.mark.parametrize("after", ["move", "delete"])
@pytest.mark.parametrize("intact", [frozenset(), frozenset({"txt"}), frozenset({"srt", "json"})])
def test_every_output_must_have_been_read_back(after: str, intact: frozenset[str]) -> None:
    kept = decide(after, intact=intact)
    assert isinstance(kept, Keep)
    assert all(name in kept.reason for name in ALL - intact)


def test_what_a_stranger_s_status_file_says_deletes_nothing() -> None:
    assert isinstance(decide("delete", adopted=True), Keep)
    assert decide("move", adopted=True) == Move(b"archive/2026")
