"""Looks for work that another tnfd has done on a recording, or this one before its state folder was lost.

Asked before anything is paid. What it finds is verified by hash; what is missing of the formats is rendered
from the transcript that lies there. Writes nothing but that.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import structlog

from tnfd import faultpoints
from tnfd.errors import Fault
from tnfd.model import Job, JobState, OutputFile, Transcript, Waiting, WaitReason
from tnfd.pipeline.deliver import Deliverer
from tnfd.pipeline.files import FileThreads, Place, place_of
from tnfd.pipeline.gate import MustWait
from tnfd.ports.clock import Clock
from tnfd.ports.outputs import Outputs
from tnfd.ports.queue import Adopted, Lease
from tnfd.ports.store import WorkStore
from tnfd.rules.adopt import MAX_STATUS_BYTES, ForeignStatus, parse_status
from tnfd.rules.adoption import Adopt, adoption_of, decide_adoption, is_at_work, plausible_outputs
from tnfd.rules.names import status_name
from tnfd.rules.reread import MAX_TRANSCRIPT_BYTES, parse_transcript

STALE_S = 600.0  # a status file at work is written at every request's end, and none takes this long twice
_LOOK_S = 15.0

_log = structlog.get_logger("tnfd.job")


class Adopter:
    """Finds out whether a job's work is done already."""

    def __init__(
        self,
        store: WorkStore,
        outputs: Outputs,
        files: FileThreads,
        deliverer: Deliverer,
        clock: Clock,
        *,
        instance: str,
    ) -> None:
        self._store = store
        self._outputs = outputs
        self._files = files
        self._deliverer = deliverer
        self._clock = clock
        self._instance = instance
        # Job -> the file of another machine that it waits for, and since when that has said the same.
        self._watched: dict[str, tuple[str, float]] = {}

    async def adopt(self, lease: Lease) -> Adopted | None:
        """Return how the job ends without any request; None: the work is to be done.

        Raises:
            MustWait: another machine is at it.
            Fault: as ``Deliverer.deliver``, where formats were to be rendered.
            LeaseLost: somebody else does this.
        """
        job = lease.job
        if job.sha256 is None or lease.transcription.results or lease.transcription.generation > 0:
            return None  # begun here, or asked for anew (redo)
        place = replace(place_of(job), create=False)
        try:
            status = await self._files.run(place.root, self._status, place, job.source.name)
            if status is None or not await self._is_foreign(lease, status):
                return None
            self._wait_for(job, status)
            read = await self._files.run(place.root, self._read_back, place, lease, status)
        except Fault:
            return None  # what cannot be read cannot be adopted; the work itself meets the same trouble
        if read is None:
            return None
        found, transcript = read
        if found.missing and transcript is None:
            return None
        if not await self._reserve(lease, place, found):
            return None
        faultpoints.reach("adopt.reserved")
        if transcript is not None and found.missing:
            await self._deliverer.deliver(lease, transcript, formats=found.missing, engine=status.engine)
        _log.info("job.adopted", instance=status.instance, outputs=len(found.outputs))
        return Adopted(found.outputs, adoption_of(status), status.flags, found.state)

    def _wait_for(self, job: Job, status: ForeignStatus) -> None:
        """Leave the work to a machine that is at it, for as long as its status file keeps changing.

        Two machines' clocks may differ, so what counts is how long the file has been the same for this one.
        """
        if not is_at_work(status, sha256=job.sha256 or "", instance=self._instance):
            self._watched.pop(job.id, None)
            return
        said, now = f"{status.job} {status.updated_at}", self._clock.monotonic()
        if self._watched.get(job.id, ("", 0.0))[0] != said:
            self._watched[job.id] = said, now
        if now - self._watched[job.id][1] >= STALE_S:
            del self._watched[job.id]
            _log.info("job.taken_over", instance=status.instance, silent_s=STALE_S)
            return
        until = self._clock.now() + timedelta(seconds=_LOOK_S)
        detail = f"{status.instance} is at it (job {status.job})"
        raise MustWait(Waiting(WaitReason.ORIGINAL, until, detail))

    async def _is_foreign(self, lease: Lease, status: ForeignStatus) -> bool:
        """Whether another tnfd wrote it; of what this one has written, the store knows more."""
        known = await self._store.job(status.job)
        again = lease.job.adopted is not None and status.state is not JobState.PARTIAL
        return known is None or (known.id == lease.job.id and again)

    def _status(self, place: Place, source_name: bytes) -> ForeignStatus | None:
        with place.open() as fd:
            name = status_name(source_name, limit=self._outputs.name_limit(fd))
            data = self._outputs.read(fd, name, max_bytes=MAX_STATUS_BYTES)
        return None if data is None else parse_status(data)

    def _read_back(
        self, place: Place, lease: Lease, status: ForeignStatus
    ) -> tuple[Adopt, Transcript | None] | None:
        job = lease.job
        with place.open() as fd:
            outputs = plausible_outputs(
                status,
                job.settings,
                source_name=job.source.name,
                size_bytes=job.source.stat.size_bytes,
                sha256=job.sha256 or "",
                limit=self._outputs.name_limit(fd),
            )
            if outputs is None:
                return None
            intact = {one.format for one in outputs if self._outputs.digest(fd, one.name) == one.sha256}
            found = decide_adoption(status, job.settings, outputs, intact)
            if found is None or not found.missing:
                return None if found is None else (found, None)
            return found, self._transcript(fd, found.outputs, job.sha256 or "")

    def _transcript(self, fd: int, outputs: tuple[OutputFile, ...], sha256: str) -> Transcript | None:
        (name,) = (output.name for output in outputs if output.format == "json")
        data = self._outputs.read(fd, name, max_bytes=MAX_TRANSCRIPT_BYTES)
        return None if data is None else parse_transcript(data, sha256=sha256)

    async def _reserve(self, lease: Lease, place: Place, found: Adopt) -> bool:
        """Make the names this job's; not where one belongs to another job."""
        held: list[str] = []
        for output in found.outputs:
            if not await self._store.reserve_output(lease, output.format, place.path, output.name):
                for format in held:
                    await self._store.release_output(lease, format)
                return False
            held.append(output.format)
        return True
