"""The one table of job states: which move is allowed, consulted by the store alone."""

from __future__ import annotations

from tnfd.model import JobState as S

# from -> to. "settling -> failed" is a file that can be judged without hashing (0 bytes, a pipe).
TRANSITIONS: dict[S, frozenset[S]] = {
    S.SETTLING: frozenset({S.QUEUED, S.FAILED, S.VANISHED, S.CANCELLED, S.DUPLICATE}),
    S.QUEUED: frozenset({S.RUNNING, S.CANCELLED, S.VANISHED, S.FAILED}),
    S.RUNNING: frozenset(
        {S.QUEUED, S.DONE, S.PARTIAL, S.FAILED, S.DUPLICATE, S.CANCELLED, S.VANISHED, S.SETTLING}
    ),
    S.DONE: frozenset({S.QUEUED}),  # redo, or another format
    S.PARTIAL: frozenset({S.QUEUED}),
    S.FAILED: frozenset({S.QUEUED, S.SETTLING}),  # retry; or the file itself is new
    S.DUPLICATE: frozenset({S.QUEUED}),
    S.CANCELLED: frozenset({S.QUEUED, S.SETTLING}),
    S.VANISHED: frozenset({S.QUEUED, S.SETTLING}),  # it came back
}


class ForbiddenMove(ValueError):
    """A state change that the table does not know: a bug in the caller."""


def check_move(old: S, new: S) -> None:
    """Do nothing if the move is allowed.

    Raises:
        ForbiddenMove: it is not.
    """
    if new not in TRANSITIONS[old]:
        raise ForbiddenMove(f"{old} -> {new}")
