"""What a worker does with a lease: transcribe if nobody has, deliver, and say how it ended."""

from __future__ import annotations

import random
from dataclasses import replace

import structlog

from tnfd.errors import Fault, LeaseLost, StoreUnusable
from tnfd.model import Transcript
from tnfd.pipeline.adopt import Adopter
from tnfd.pipeline.deliver import Deliverer
from tnfd.pipeline.fate import RetryPolicy, decide_outcome
from tnfd.pipeline.gate import MustWait
from tnfd.pipeline.making import Draining
from tnfd.pipeline.transcribe import Transcriber
from tnfd.ports.clock import Clock
from tnfd.ports.queue import Done, Lease, Outcome, Partial, Released, Retry, Wait
from tnfd.rules.formats import fitting
from tnfd.rules.names import for_terminal

_log = structlog.get_logger("tnfd.job")


class JobHandler:
    """Callable as ``ports.queue.Handler``."""

    def __init__(
        self,
        transcriber: Transcriber,
        deliverer: Deliverer,
        clock: Clock,
        policy: RetryPolicy,
        *,
        adopter: Adopter | None = None,
    ) -> None:
        self._transcriber = transcriber
        self._deliverer = deliverer
        self._adopter = adopter
        self._clock = clock
        self.policy = policy

    async def __call__(self, lease: Lease) -> Outcome:
        """Do the job; every failure becomes an outcome, but a lost lease and a lost database."""
        job = lease.job
        structlog.contextvars.bind_contextvars(job=job.id, file=for_terminal(job.source.rel))
        _log.info("job.started", attempt=lease.epoch, inbox=job.inbox)
        try:
            return await self._do(lease)
        except MustWait as wait:
            return Wait(wait.waiting)
        except Draining:
            return Released()
        except Fault as fault:
            return self._outcome(lease, fault)
        except (LeaseLost, StoreUnusable):
            raise
        except Exception as error:  # noqa: BLE001 - a bug fails this job, never the worker
            _log.exception("job.bug")
            return self._outcome(lease, Fault("internal.bug", type(error).__name__))

    async def _do(self, lease: Lease) -> Outcome:
        transcript, settings = lease.transcription.transcript, lease.job.settings
        skip = lease.job.duplicate_of is not None and settings.on_duplicate == "skip"
        if transcript is None:
            if self._adopter is not None and (adopted := await self._adopter.adopt(lease)) is not None:
                return adopted
            transcript = await self._transcriber.transcribe(lease)
        transcript = fitting(transcript, settings.formats, settings.speakers)
        if not skip:
            await self._deliverer.deliver(lease, transcript)
        return _end(transcript)

    def _outcome(self, lease: Lease, fault: Fault) -> Outcome:
        # A long recording meets more failures than a short one: only those in a row without an answer count.
        anew = self._transcriber.take_answers(lease.job.id) > 0
        outcome = decide_outcome(
            fault,
            failures=0 if anew else lease.job.failures,
            policy=self.policy,
            now=self._clock.now(),
            chance=random.random(),  # noqa: S311 - spreads retries, guards nothing
        )
        return replace(outcome, anew=anew) if isinstance(outcome, Retry) else outcome


def _end(transcript: Transcript) -> Outcome:
    return Partial(transcript.gaps, transcript.flags) if transcript.gaps else Done(transcript.flags)
