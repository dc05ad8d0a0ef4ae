"""From a transcript to files beside the recording: names reserved first, then written, then recorded.

A crash between any two steps is repaired by looking at what is on disk; nothing is ever written over a file
that tnfd did not write or that somebody has edited since.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
from collections.abc import Collection, Iterator

from tnfd import faultpoints
from tnfd.errors import NameTaken
from tnfd.model import EngineChoice, Job, OutputFile, Transcript
from tnfd.pipeline.files import FileThreads, Place, check_settled, place_of
from tnfd.ports.outputs import Outputs
from tnfd.ports.progress import Progress, Stage, Unheard
from tnfd.ports.queue import Lease
from tnfd.ports.store import WorkStore
from tnfd.rules.formats import RENDERERS, RenderInput
from tnfd.rules.names import candidate_names, edited_names, fold
from tnfd.rules.status import moment_of_ns


class Deliverer:
    """Writes a job's outputs."""

    def __init__(
        self, store: WorkStore, outputs: Outputs, files: FileThreads, progress: Progress | None = None
    ) -> None:
        self._store = store
        self._outputs = outputs
        self._files = files
        self._progress = progress or Unheard()

    async def deliver(
        self,
        lease: Lease,
        transcript: Transcript,
        *,
        formats: Collection[str] | None = None,
        engine: EngineChoice | None = None,
    ) -> None:
        """Write every format; return when each was read back from disk and recorded.

        ``formats``: only these. ``engine``: the one that made the transcript, where the store does not know.

        Raises:
            Fault: ``output.*``, ``inbox.lost``; SourceVanished: the file's folder is gone.
            LeaseLost: somebody else does this.
        """
        job, place = lease.job, place_of(lease.job)
        self._progress.reached(job.id, Stage.WRITING)
        # The outputs take the source's permissions, and a source that left meanwhile gets none.
        source_stat = await self._files.run(job.source.root, check_settled, job.present)
        await self._files.run(place.root, self._sweep, place, job.id)
        # What the store knows by now, not what the lease began with: after a crash it gives the same bytes.
        known = await self._store.job(job.id) or job
        engine = engine or known.engine or (job.settings.engines[0] if transcript.text else None)
        given = RenderInput(transcript, job.source.name, job.sha256 or "", engine, _recorded_at(known))
        kept = {
            output.format: output
            for folder, output in await self._store.outputs(job.id)
            if folder == place.path
        }
        for format in job.settings.formats if formats is None else formats:
            data = await asyncio.to_thread(RENDERERS[format], given)
            await self._one(lease, place, format, data, kept.get(format), transcript, source_stat)

    def _sweep(self, place: Place, job_id: str) -> None:
        with place.open() as fd:
            self._outputs.sweep(fd, job_id)

    async def _one(
        self,
        lease: Lease,
        place: Place,
        format: str,
        data: bytes,
        row: OutputFile | None,
        transcript: Transcript,
        source_stat: os.stat_result,
    ) -> None:
        names = await self._names(lease, place, format, data, row, transcript)
        for name, own in names:
            if not await self._store.reserve_output(lease, format, place.path, name):
                continue
            faultpoints.reach("output.reserved")
            try:
                sha256 = await self._files.run(
                    place.root, self._write, place, name, data, lease.job.id, source_stat, own
                )
            except NameTaken:
                await self._store.release_output(lease, format)
                continue
            await self._store.output_written(lease, format, sha256)
            faultpoints.reach("output.recorded")
            return

    def _write(
        self,
        place: Place,
        name: bytes,
        data: bytes,
        job_id: str,
        source_stat: os.stat_result,
        own: tuple[str, ...],
    ) -> str:
        with place.open() as fd:
            return self._outputs.write(fd, name, data, job=job_id, mode_from=source_stat, own=own)

    async def _names(
        self,
        lease: Lease,
        place: Place,
        format: str,
        data: bytes,
        row: OutputFile | None,
        transcript: Transcript,
    ) -> Iterator[tuple[bytes, tuple[str, ...]]]:
        """Names to try, each with the contents that may be replaced there."""
        job = lease.job
        on_disk, taken, limit = await self._files.run(place.root, self._look, place, row)
        language = transcript.languages[0] if transcript.languages else None
        fresh = (
            (name, ())
            for name in candidate_names(
                job.source.name, format, job.settings.name_format, language, job.sha256 or "", limit=limit
            )
            if fold(name) not in taken
        )
        if row is None:
            return fresh
        if row.sha256 is None or on_disk in (None, row.sha256, hashlib.sha256(data).hexdigest()):
            # Ours, or nothing there yet; where neither, writing says NameTaken and the next name is tried.
            own = () if row.sha256 is None else (row.sha256,)
            return itertools.chain([(row.name, own)], fresh)
        if row.sha256 == hashlib.sha256(data).hexdigest():
            return iter(())  # what somebody has edited is what would be written: there is nothing new to say
        return (
            (name, ())
            for name in edited_names(row.name, job.source.name, job.sha256 or "", limit=limit)
            if fold(name) not in taken
        )

    def _look(self, place: Place, row: OutputFile | None) -> tuple[str | None, frozenset[str], int]:
        with place.open() as fd:
            on_disk = self._outputs.digest(fd, row.name) if row is not None else None
            return on_disk, self._outputs.taken(fd), self._outputs.name_limit(fd)


def _recorded_at(job: Job) -> str | None:
    """Return the moment of recording, or that of the file's last change, which for a recorder is its end."""
    told = job.media.recorded_at if job.media else None
    return told or moment_of_ns(job.source.stat.mtime_ns)
