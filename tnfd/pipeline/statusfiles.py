"""Keeps each job's status file true: finds those that are behind in the store, writes, records.

A status file that cannot be written stops nothing; it is tried again later.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Collection

import structlog

from tnfd import faultpoints
from tnfd.errors import Fault, NameTaken, SourceVanished
from tnfd.model import Job, JobState
from tnfd.pipeline.files import FileThreads, Place, place_of
from tnfd.ports.clock import Clock
from tnfd.ports.outputs import Outputs
from tnfd.ports.store import StatusStore
from tnfd.root import Root
from tnfd.rules.adopt import MAX_STATUS_BYTES, parse_status
from tnfd.rules.adoption import speaks_for_another
from tnfd.rules.names import status_name, status_names
from tnfd.rules.status import StatusAction, decide_status, render_status

_log = structlog.get_logger("tnfd.status")

_GROUP = 100
_NAMES = 100  # more files of one name than this have not come together
_AGAIN_S = 60.0  # after a status file could not be written


class StatusKeeper:
    """Writes status files of the jobs of some scopes. ``instance`` names this machine in them."""

    def __init__(
        self,
        store: StatusStore,
        outputs: Outputs,
        files: FileThreads,
        clock: Clock,
        *,
        instance: str,
        busy: Collection[str] = (),
    ) -> None:
        self._store = store
        self._outputs = outputs
        self._files = files
        self._clock = clock
        self._instance = instance
        self._busy = busy
        self._since = clock.now()
        self._swept: set[str] = set()  # jobs of an earlier process after which was tidied up
        self._later: dict[str, float] = {}  # job -> monotonic moment of the next try

    def hurry(self, job_id: str) -> None:
        """Something happened to the job: what stood in the way of its status file may be mended."""
        self._later.pop(job_id, None)

    async def catch_up(self, scopes: Collection[str]) -> int:
        """Write what is behind; return how many status files were dealt with."""
        now = self._clock.monotonic()
        for job_id in [job_id for job_id, at in self._later.items() if at <= now]:
            del self._later[job_id]
        dealt = 0
        without = {*self._later, *self._busy}
        for job, revision in await self._store.status_due(scopes, limit=_GROUP, without=without):
            try:
                await self._one(job, revision)
                dealt += 1
            except Fault as fault:
                self._later[job.id] = now + _AGAIN_S
                _log.debug("status.not_written", job=job.id, code=fault.code, reason=fault.message)
        return dealt

    async def _one(self, job: Job, revision: int) -> None:
        action = decide_status(
            job.settings.status,
            job.state,
            # What is due has been in its state long enough; the store keeps those moments.
            in_state_s=float("inf"),
            since_written_s=None,
            changed=True,
            has_outputs=bool(job.outputs),
        )
        place, sha256 = place_of(job), None
        if await self._is_others(job, place):
            await self._store.status_written(job.id, revision, None)
            return
        if job.seen_at < self._since and job.id not in self._swept:
            with contextlib.suppress(SourceVanished):
                await self._files.run(place.root, self._sweep, place, job.id)
            self._swept.add(job.id)
        former = await self._former(job, place) if job.moved_to is None else None
        if action is StatusAction.WRITE:
            with contextlib.suppress(SourceVanished):  # nowhere to write it any more
                sha256 = await self._write(job, place)
        elif action is StatusAction.REMOVE:
            name = await self._name_of(job, place)
            with contextlib.suppress(SourceVanished):  # its folder left with it
                await self._files.run(place.root, self._remove, job, place, name)
        if former is not None:
            with contextlib.suppress(SourceVanished):
                await self._files.run(former[0].root, self._remove, job, *former)
        faultpoints.reach("status.written")
        await self._store.status_written(job.id, revision, sha256)
        faultpoints.reach("status.recorded")

    async def _is_others(self, job: Job, place: Place) -> bool:
        """Whether the status file speaks for another machine that works on this recording, or has done so."""
        if job.state not in (JobState.SETTLING, JobState.QUEUED):
            return False

        def look() -> bool:
            with place.open() as fd:
                name = status_name(_shown_name(job), limit=self._outputs.name_limit(fd))
                data = self._outputs.read(fd, name, max_bytes=MAX_STATUS_BYTES)
            status = None if data is None else parse_status(data)
            if status is None or status.job == job.id:
                return False
            # Before its content is hashed here, the other's hash has nothing to be compared with.
            sha256 = job.sha256 or status.sha256 or ""
            return speaks_for_another(status, sha256=sha256, instance=self._instance)

        try:
            return await self._files.run(place.root, look)
        except SourceVanished:
            return False

    def _sweep(self, place: Place, job_id: str) -> None:
        """Remove what a killed process was writing for this job; nobody may come to write for it again."""
        with place.open() as fd:
            self._outputs.sweep(fd, job_id)

    async def _write(self, job: Job, place: Place) -> str:
        data = render_status(job, instance=self._instance, now=self._clock.now())
        mode_from = await self._files.run(job.source.root, _stat, job)
        limit = await self._files.run(place.root, self._limit, place)
        had = await self._name_of(job, place) if job.moved_to is not None else None
        for name in itertools.chain([had] if had else [], status_names(_shown_name(job), limit=limit)):
            if await self._store.reserve_status(job.id, place.path, name):
                faultpoints.reach("status.reserved")
                with contextlib.suppress(NameTaken):
                    return await self._files.run(place.root, self._put, place, name, data, job, mode_from)
        raise AssertionError("there is no end of names")

    def _limit(self, place: Place) -> int:
        with place.open() as fd:
            return self._outputs.name_limit(fd)

    def _put(self, place: Place, name: bytes, data: bytes, job: Job, mode_from: os.stat_result | None) -> str:
        with place.open() as fd:
            return self._outputs.write_status(
                fd, name, data, job=job.id, source_name=job.source.name, mode_from=mode_from
            )

    async def _former(self, job: Job, place: Place) -> tuple[Place, bytes] | None:
        """Where its status file lies under the name that the recording had before it was renamed."""
        for folder, output in await self._store.outputs(job.id):
            if output.format != "status":
                continue
            names = itertools.islice(status_names(_shown_name(job)), _NAMES)
            if folder == place.path and output.name in {*names, await self._present_name(job, place)}:
                return None
            base = place.root.rstrip(b"/") + b"/"
            if folder == place.root or folder.startswith(base):
                return Place(place.root, folder[len(base) :], create=False), output.name
            return Place(folder, b"", create=False), output.name
        return None

    async def _present_name(self, job: Job, place: Place) -> bytes:
        try:
            limit = await self._files.run(place.root, self._limit, place)
        except SourceVanished:
            return b""
        return status_name(_shown_name(job), limit=limit)

    async def _name_of(self, job: Job, place: Place) -> bytes | None:
        """The name that was reserved for it, if any was."""
        for folder, output in await self._store.outputs(job.id):
            if output.format == "status" and folder == place.path:
                return output.name
        return None

    def _remove(self, job: Job, place: Place, name: bytes | None) -> None:
        with place.open() as fd:
            name = name or status_name(_shown_name(job), limit=self._outputs.name_limit(fd))
            self._outputs.remove_status(fd, name, job=job.id, source_name=job.source.name)


def _shown_name(job: Job) -> bytes:
    """The recording's name as that of its status file tells it: the present one, where it lies beside."""
    return job.source.name if job.settings.output_dir else job.present.name


def _stat(job: Job) -> os.stat_result | None:
    """The source's permissions, if it is still there; a status file is written without it, too."""
    try:
        with Root(job.source.root) as root:
            return root.look(job.present.rel)
    except OSError:
        return None
