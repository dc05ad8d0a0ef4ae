"""The truth: jobs, transcriptions and what is known of them. Each call is one transaction, durable on return.

Composition happens inside the store (claiming and submitting are one transaction), so that callers never hold
a transaction open across an await.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tnfd.errors import Fault
from tnfd.model import (
    ChunkResult,
    Cut,
    Encoding,
    EngineChoice,
    FileRef,
    HistoryEntry,
    Job,
    JobState,
    MediaInfo,
    OutputFile,
    StatKey,
    Transcript,
)
from tnfd.ports.claims import Found, Origin
from tnfd.ports.queue import Lease, Outcome


@dataclass(frozen=True, slots=True)
class Claim:
    """The job that answers for a file; ``new`` if this call made it."""

    job: str
    new: bool


@dataclass(frozen=True, slots=True)
class Kin:
    """A job of a file with this device, inode and content, but under another path.

    ``ended``: its outputs were written; ``outputs`` are those beside it, each with its sha256.
    """

    job: str
    path: bytes
    ended: bool
    outputs: tuple[tuple[bytes, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Skip:
    """There is nothing to do for this id now, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finished:
    """What ending a lease changed. ``released`` counts copies that no longer wait for this original."""

    job: Job
    released: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the controls."""

    id: int
    command: str
    argument: str


class IntakeStore(Protocol):
    """What intake needs."""

    async def known(self, root: bytes, after: bytes, limit: int) -> list[tuple[bytes, StatKey]]:
        """The next ``limit`` sights below a root, in the order of their paths, beyond the path ``after``."""
        ...

    async def unsettled(self, root: bytes) -> dict[bytes, StatKey]:
        """The jobs below a root that are still settling: relative path -> the stat seen last."""
        ...

    async def claim(self, origin: Origin, found: Sequence[Found]) -> list[Claim]:
        """Claim a group of files in one commit and submit the new jobs."""
        ...

    async def kin(self, found: Sequence[Found]) -> dict[int, list[Kin]]:
        """Jobs that some of these files may have had under another path, newest first, by position."""
        ...

    async def settling(self, origin: Origin, ref: FileRef, seen_at: datetime) -> str:
        """Show a file that may still be growing; return the job's id."""
        ...

    async def refuse(self, origin: Origin, ref: FileRef, seen_at: datetime, fault: Fault) -> Claim:
        """Fail a file before its content is known."""
        ...

    async def gone(self, root: bytes, rels: Sequence[bytes]) -> list[str]:
        """Files that left while settling; return their jobs."""
        ...

    async def first_start(self, root: bytes) -> bool:
        """Whether no first scan below a root was ever finished."""
        ...

    async def skip(self, root: bytes, refs: Sequence[FileRef]) -> None:
        """End the first scan below a root: remember these files without making jobs."""
        ...

    async def leave(self, ref: FileRef, why: str) -> None:
        """Remember a finished file without making a job; one that was settling is cancelled."""
        ...

    async def reserved(self, folder: bytes, folded: Collection[str]) -> frozenset[str]:
        """Those of these names in a folder that belong to jobs."""
        ...


class QueueStore(Protocol):
    """What a queue needs."""

    async def ready(
        self, scopes: Collection[str], *, limit: int, without: Collection[str], free: bool = False
    ) -> list[str]:
        """Ids of jobs that may run now, best first; jobs of a paused engine only as its due probe.

        ``free``: only those whose transcript is stored, so that nothing is to be sent for them.
        """
        ...

    async def next_due(self, scopes: Collection[str]) -> float | None:
        """Seconds until the next waiting job becomes ready by itself; None: nothing waits for time."""
        ...

    async def begin(self, job_id: str) -> Lease | Skip:
        """Lease a job: state running, epoch + 1, the transcription's owner settled."""
        ...

    async def finish(self, lease: Lease, outcome: Outcome) -> Finished | None:
        """End a lease; None: it had been lost, nothing was written."""
        ...

    async def reclaim(self) -> list[str]:
        """Requeue what this process holds leases on; for a queue that starts anew after a crash."""
        ...

    async def bury_dead(self) -> list[str]:
        """Requeue the jobs that dead processes left running, book their open requests; return the jobs."""
        ...


class WorkStore(Protocol):
    """What the pipeline needs. Calls with a lease write nothing once it was lost, and raise LeaseLost."""

    async def save_media(self, lease: Lease, media: MediaInfo) -> None:
        """Store what probing found."""
        ...

    async def restart_cuts(self, lease: Lease, encoding: Encoding) -> None:
        """Forget what was not answered of a plan, for an engine that takes another encoding."""
        ...

    async def save_cut(self, lease: Lease, cut: Cut) -> None:
        """Store one row of the plan, or its new file. A silent cut counts as answered, with no text."""
        ...

    async def split_cuts(self, lease: Lease, indexes: Collection[int], max_s: float) -> None:
        """Drop rows without answer that are too long for the server; smaller ones will take their place."""
        ...

    async def lose_chunk(self, lease: Lease, index: int, code: str) -> None:
        """Give a row without answer up, for good or until a retry by command."""
        ...

    async def finish_cuts(self, lease: Lease, *, samples: int, bad_packets: int) -> None:
        """The plan is whole."""
        ...

    async def save_chunk(
        self, lease: Lease, index: int, engine: EngineChoice, result: ChunkResult, *, uploaded_bytes: int,
        cost_usd: float, audio_s: float,
    ) -> None:  # fmt: skip
        """Store an answer and what it cost; fixes the transcription's engine."""
        ...

    async def save_heard(self, lease: Lease, index: int, result: ChunkResult) -> None:
        """Store what listening added to an answer: its times, its doubts."""
        ...

    async def job(self, job_id: str) -> Job | None:
        """One job, as it stands now."""
        ...

    async def save_transcript(self, lease: Lease, transcript: Transcript) -> None:
        """Store the whole text; copies may now be delivered."""
        ...

    async def reserve_output(self, lease: Lease, format: str, folder: bytes, name: bytes) -> bool:
        """Reserve a name in a folder for this job; False: another job has it (names compared folded)."""
        ...

    async def release_output(self, lease: Lease, format: str) -> None:
        """Give a reserved name back that turned out to be taken on disk."""
        ...

    async def output_written(self, lease: Lease, format: str, sha256: str) -> None:
        """The output is on disk with this content."""
        ...

    async def outputs(self, job_id: str) -> list[tuple[bytes, OutputFile]]:
        """A job's reserved and written outputs with their folders; the status file too."""
        ...


class StatusStore(Protocol):
    """What the keeper of status files needs."""

    async def status_due(
        self, scopes: Collection[str], *, limit: int, without: Collection[str] = ()
    ) -> list[tuple[Job, int]]:
        """Jobs whose status file is behind and may be written now, oldest change first, with the revision."""
        ...

    async def status_written(self, job_id: str, revision: int, sha256: str | None) -> None:
        """The status file shows this revision; None: it was removed, or is not wanted."""
        ...

    async def reserve_status(self, job_id: str, folder: bytes, name: bytes) -> bool:
        """Reserve a status file's name; a former job of the same path hands it over."""
        ...

    async def outputs(self, job_id: str) -> list[tuple[bytes, OutputFile]]:
        """A job's reserved and written outputs with their folders; the status file too."""
        ...


class ViewStore(Protocol):
    """What people ask."""

    async def job(self, job_id: str) -> Job | None:
        """One job."""
        ...

    async def by_prefix(self, prefix: str) -> list[str]:
        """Job ids that begin with ``prefix``, at most 20."""
        ...

    async def jobs(
        self, *, state: JobState | None = None, inbox: str | None = None, path: bytes | None = None,
        limit: int | None = None,
    ) -> list[Job]:  # fmt: skip
        """Jobs, newest first."""
        ...

    async def history(self, job_id: str) -> list[HistoryEntry]:
        """A job's story."""
        ...

    async def counts(self) -> dict[str, int]:
        """Jobs by state."""
        ...

    async def waiting(self) -> dict[str, int]:
        """Queued jobs by reason."""
        ...


class ControlStore(Protocol):
    """Commands from the command line to whatever runs."""

    async def retry(self, job_ids: Sequence[str]) -> list[str]:
        """Queue failed, partial, cancelled or waiting jobs anew; return those that were."""
        ...

    async def commands(self, after: int) -> list[Command]:
        """Rows newer than ``after``."""
        ...
