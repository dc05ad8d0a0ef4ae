"""What a batch asks of the store: which jobs its files have already, and jobs of its own for the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tnfd.model import JobState, StatKey
from tnfd.ports.claims import Found, Origin


@dataclass(frozen=True, slots=True)
class Former:
    """A job that a path has already. ``outputs``: format, folder and name of what it has written.

    ``transcribed``: its text is stored. ``begun_at``: when its transcription was begun (seconds since 1970).
    """

    job: str
    path: bytes
    stat: StatKey
    sha256: str
    profile: str
    state: JobState
    transcribed: bool
    begun_at: float
    outputs: tuple[tuple[str, bytes, bytes], ...] = ()


class Taking(StrEnum):
    """What became of a file that a batch wanted to take."""

    NEW = "new"  # a job was made, or a former one is done anew
    RENDER = "render"  # its text is stored already; only outputs are owed
    FOLLOW = "follow"  # somebody else is at it
    ALREADY = "already"  # nothing is owed


@dataclass(frozen=True, slots=True)
class Take:
    """One finished file of a batch.

    ``present``: formats whose outputs lie where they are wanted; ``redo_since``: transcriptions begun before
    (seconds since 1970) are to be made anew; ``remember``: the file lies in an inbox, whose daemon need not
    look at it again.
    """

    origin: Origin
    found: Found
    priority: int = 0
    present: frozenset[str] = frozenset()
    redo_since: float | None = None
    remember: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """The job that answers for the file, and how."""

    job: str
    how: Taking


@dataclass(frozen=True, slots=True)
class Waits:
    """Queued jobs of a scope that wait for one reason ("": for a worker)."""

    reason: str
    detail: str
    jobs: int


class BatchStore(Protocol):
    """What a batch needs beyond what the queue and the pipeline need."""

    async def take(self, wanted: Sequence[Take], live: Collection[str]) -> list[Taken]:
        """Make, find or take over the jobs of files, in one commit.

        ``live``: scopes of inboxes that a running daemon works on.
        """
        ...

    async def waits(self, scope: str) -> list[Waits]:
        """Why the queued jobs of a scope wait."""
        ...

    async def daemon_works(self) -> bool:
        """Whether a daemon is at work on this state folder."""
        ...

    async def redo_begin(self, fingerprint: str) -> float:
        """When the redo with this fingerprint was begun that has not ended yet; it begins now if none has."""
        ...

    async def redo_end(self, fingerprint: str) -> None:
        """It has ended: the same command would mean another one."""
        ...
