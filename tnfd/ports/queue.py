"""Leases, what a handler may answer, and the queue that delivers jobs to workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from tnfd.model import Adoption, Gap, Job, JobState, OutputFile, Waiting
from tnfd.ports.work import Transcription


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a job. Every write names ``epoch``; an older epoch writes nothing."""

    job: Job
    epoch: int
    transcription: Transcription


@dataclass(frozen=True, slots=True)
class Done:
    """All outputs are on disk and recorded."""

    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Adopted:
    """Another tnfd has done it: these outputs, reserved for this job, were found as its status file says."""

    outputs: tuple[OutputFile, ...]
    adoption: Adoption
    flags: tuple[str, ...] = ()
    state: JobState = JobState.DONE


@dataclass(frozen=True, slots=True)
class Partial:
    """All outputs are on disk and recorded, with gaps."""

    gaps: tuple[Gap, ...]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Retry:
    """A counted failure; again after ``after_s`` seconds. ``anew``: the first since an answer came."""

    after_s: float
    code: str
    message: str
    hint: str
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Not this job's fault, never counted: queued with a reason."""

    waiting: Waiting


@dataclass(frozen=True, slots=True)
class Fail:
    """Given up."""

    code: str
    message: str
    hint: str
    retryable: bool
    counted: bool = False  # whether this was a counted failure of the file


@dataclass(frozen=True, slots=True)
class Released:
    """Handed back unfinished (the process stops, or a bug); again as soon as somebody has time."""


@dataclass(frozen=True, slots=True)
class LookAgain:
    """The file is not the one that was settled, or must be claimed anew: intake looks at it again."""

    why: str = "the file changed"


@dataclass(frozen=True, slots=True)
class Vanished:
    """The file left before anything was written for it."""


Outcome = Done | Adopted | Partial | Retry | Wait | Fail | Released | LookAgain | Vanished
Handler = Callable[[Lease], Awaitable[Outcome]]


class Queue(Protocol):
    """Delivers jobs of some scopes to workers; owns leases and redelivery."""

    def wake(self) -> None:
        """Say that there may be something to deliver."""
        ...

    async def run(self, handler: Handler) -> None:
        """Work until drained or cancelled; a handler's own exception releases its job and is logged."""
        ...

    def drain(self) -> None:
        """Take nothing new; ``run`` returns when what is in progress has ended."""
        ...

    def cancel(self, job_id: str) -> None:
        """End the work on one job, if it is in progress here."""
        ...
