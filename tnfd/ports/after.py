"""What the room that moves and deletes finished recordings needs of the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tnfd.model import Job, OutputFile, StatKey

SOURCE = "source"  # the part that is the recording itself; the others are ``status`` and the formats
LONGEST_S = 600.0  # nothing is put off for longer


@dataclass(frozen=True, slots=True)
class Errand:
    """One file on its way, written down before it is touched. Folders are absolute.

    ``copied_ino``: the inode of a whole copy in ``to_folder`` (where a rename cannot reach), known before the
    copy gets its name.
    """

    part: str
    act: Literal["move", "delete"]
    folder: bytes
    name: bytes
    to_folder: bytes = b""
    to_name: bytes = b""
    copied_ino: int | None = None


class AfterStore(Protocol):
    """What is owed to the files of finished jobs, and how far it has come."""

    async def due(self, scopes: Collection[str], *, limit: int, without: Collection[str]) -> list[str]:
        """Jobs whose files may be dealt with now: they have ended, and their status file says so."""
        ...

    async def next_due_s(self, scopes: Collection[str]) -> float | None:
        """Seconds until a job is due that is put off; None: none is."""
        ...

    async def load(self, job_id: str) -> tuple[Job, tuple[Errand, ...]] | None:
        """A job that is due and what of it is on its way; None where it is due no more."""
        ...

    async def superseded(self, job: Job) -> bool:
        """Whether the path belongs to a newer job by now."""
        ...

    async def outputs(self, job_id: str) -> list[tuple[bytes, OutputFile]]:
        """A job's reserved and written outputs with their folders; the status file too."""
        ...

    async def plan(self, job_id: str, errands: Sequence[Errand]) -> tuple[str, ...] | None:
        """Write down what will be done, in the order of doing, and reserve the new names of outputs.

        Nothing is written where it returns something: parts whose names belong to other jobs; or None, the
        job is at work again.
        """
        ...

    async def rename(self, job_id: str, part: str, to_name: bytes) -> bool:
        """Choose another name for a part on its way; False: it belongs to another job."""
        ...

    async def copied(self, job_id: str, part: str, ino: int) -> None:
        """A whole copy lies in the target folder, without its name as yet."""
        ...

    async def arrived(self, job_id: str, part: str, stat: StatKey | None) -> None:
        """One part is done. ``stat``: the recording's, where it lies now; None for all else."""
        ...

    async def call_off(self, job_id: str) -> None:
        """Nothing was touched, and nothing will be."""
        ...

    async def over(self, job_id: str, event: str, detail: str, *, shown: bool) -> None:
        """Nothing more is owed; ``shown``: the status file has something new to say."""
        ...

    async def put_off(self, job_id: str, after_s: float) -> None:
        """Try again later."""
        ...

    async def tries(self, job_id: str) -> int:
        """How often it was put off."""
        ...
