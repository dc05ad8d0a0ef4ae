"""The one table of job states."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tnfd.model import JobState as S
from tnfd.rules.states import TRANSITIONS, ForbiddenMove, check_move


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == set(S)


def test_no_state_moves_to_itself() -> None:
    assert not [state for state, moves in TRANSITIONS.items() if state in moves]


def reachable(start: S) -> Iterator[S]:
    seen, todo = {start}, [start]
    while todo:
        state = todo.pop()
        yield state
        for after in TRANSITIONS[state] - seen:
            seen.add(after)
            todo.append(after)


@pytest.mark.parametrize("start", S)
def test_work_can_always_be_taken_up_again(start: S) -> None:
    assert {S.QUEUED, S.DONE, S.FAILED} <= set(reachable(start))


def test_only_a_running_job_gets_its_text() -> None:
    for state in (S.DONE, S.PARTIAL):
        assert [before for before, moves in TRANSITIONS.items() if state in moves] == [S.RUNNING]


def test_only_a_queued_job_is_leased() -> None:
    assert [before for before, moves in TRANSITIONS.items() if S.RUNNING in moves] == [S.QUEUED]


def test_final_states_leave_only_by_a_new_beginning() -> None:
    for state in S:
        if state.final:
            assert TRANSITIONS[state] <= {S.QUEUED, S.SETTLING}


def test_final_is_what_nothing_happens_to_by_itself() -> None:
    assert {state for state in S if not state.final} == {S.SETTLING, S.QUEUED, S.RUNNING}


def test_moves_are_checked_against_the_table() -> None:
    for old in S:
        for new in S:
            if new in TRANSITIONS[old]:
                check_move(old, new)
            else:
                with pytest.raises(ForbiddenMove, match=f"{old} -> {new}"):
                    check_move(old, new)
