"""What becomes of recordings once their jobs have ended: moves them, what lies beside them, or deletes them.

Looks before it acts: every output is read back from disk, the recording is still the one that settled. What
will be done is in the store before a file is touched. A job stays done whatever happens here; what cannot be
done now is tried again later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable

import structlog

from tnfd import faultpoints
from tnfd.errors import Fault, SourceChanged, SourceVanished
from tnfd.model import FileRef, Job, JobState, OutputFile
from tnfd.pipeline.carry import Carrier
from tnfd.pipeline.files import FileThreads, root_of
from tnfd.ports.after import LONGEST_S, SOURCE, AfterStore, Errand
from tnfd.ports.outputs import Outputs
from tnfd.root import Root
from tnfd.rules.after import Delete, Keep, Move, decide_after
from tnfd.rules.names import for_terminal, status_name

_log = structlog.get_logger("tnfd.after")

_GROUP = 50
_FIRST_S = 2.0  # until the first next try; then twice as long each time
_STATUS = "status"


class Mover:
    """Deals with the files of finished jobs. ``in_work``: jobs whose files nobody else may touch now.

    ``look`` gets scope and path of a recording that is not the one that settled.
    """

    def __init__(
        self,
        store: AfterStore,
        outputs: Outputs,
        files: FileThreads,
        look: Callable[[str, bytes], None] = lambda _scope, _rel: None,
    ) -> None:
        self._store = store
        self._outputs = outputs
        self._files = files
        self._carrier = Carrier(store, outputs, files)
        self.in_work: set[str] = set()
        self.look = look

    async def catch_up(self, scopes: Collection[str]) -> int:
        """Do what is due; return how many jobs were dealt with."""
        dealt = 0
        for job_id in await self._store.due(scopes, limit=_GROUP, without=self.in_work):
            self.in_work.add(job_id)
            try:
                # Asked only now: whoever writes its status file stays away from here on, and had done.
                loaded = await self._store.load(job_id)
                if loaded is not None:
                    await self._try(*loaded)
                    dealt += 1
            finally:
                self.in_work.discard(job_id)
        return dealt

    async def _try(self, job: Job, errands: tuple[Errand, ...]) -> None:
        try:
            await self._one(job, errands)
        except Fault as fault:
            tries = await self._store.tries(job.id)
            again_in_s = min(LONGEST_S, _FIRST_S * 2**tries)
            await self._store.put_off(job.id, again_in_s)
            log = _log.warning if tries == 0 and not isinstance(fault, SourceChanged) else _log.debug
            log(
                "after.put_off", job=job.id, file=for_terminal(job.source.rel), code=fault.code,
                reason=fault.message, hint=fault.hint, again_in_s=again_in_s,
            )  # fmt: skip

    async def _one(self, job: Job, errands: tuple[Errand, ...]) -> None:
        resumed = bool(errands)
        if not errands:
            decided = await self._decide(job)
            if isinstance(decided, Keep):
                await self._keep(job, decided.reason)
                return
            errands = await self._plan(job, decided)
            faultpoints.reach("after.planned")
        contents = {row.format: row.sha256 for _, row in await self._store.outputs(job.id)}
        where, renamed = job.moved_to, resumed
        for errand in errands:
            try:
                name = await self._carrier.carry(job, errand, contents.get(errand.part))
            except (SourceChanged, SourceVanished) as fault:
                if errand.part != SOURCE:
                    raise Fault("output.io", fault.message) from fault
                await self._store.call_off(job.id)
                raise
            if errand.part == SOURCE:
                where = None if name is None else os.path.join(errand.to_folder, name)
            renamed |= errand.part not in (SOURCE, _STATUS) and name != errand.name
        if errands:
            await self._tell(job, where, shown=renamed)

    # -- deciding --------------------------------------------------------------------------------------

    async def _decide(self, job: Job) -> Keep | Move | Delete:
        intact = await self._intact(job) if job.state is not JobState.FAILED else frozenset[str]()
        decided = decide_after(
            job.settings, job.state, job.flags, intact=intact, adopted=job.adopted is not None
        )
        if isinstance(decided, Keep):
            return decided
        try:
            await self._files.run(job.source.root, _check, job.present)
        except SourceVanished:
            return Keep("it is not there any more")
        except SourceChanged:
            if await self._store.superseded(job):
                return Keep("another recording has come to its place")
            self.look(job.scope, job.source.rel)
            raise
        if isinstance(decided, Move) and _target(job, decided) == _folder_of(job.present):
            return Keep("it lies there already")
        return decided

    async def _intact(self, job: Job) -> frozenset[str]:
        """Formats of the outputs that lie on disk as they were recorded; read from the disk itself."""
        rows = await self._store.outputs(job.id)
        if job.state is JobState.DUPLICATE and job.settings.on_duplicate == "skip" and job.duplicate_of:
            rows = await self._store.outputs(job.duplicate_of[0])
        written = [(folder, row) for folder, row in rows if row.format != _STATUS and row.sha256 is not None]
        return await self._files.run(job.source.root, self._read_back, written)

    def _read_back(self, rows: Iterable[tuple[bytes, OutputFile]]) -> frozenset[str]:
        intact = set()
        for folder, row in rows:
            try:
                root = Root(folder)
            except OSError:
                continue
            with root:
                if self._outputs.digest(root.fd, row.name, from_disk=True) == row.sha256:
                    intact.add(row.format)
        return frozenset(intact)

    async def _keep(self, job: Job, reason: str) -> None:
        _log.info("job.kept", job=job.id, file=for_terminal(job.source.rel), reason=reason)
        await self._store.over(job.id, "kept", reason, shown=False)

    # -- planning --------------------------------------------------------------------------------------

    async def _plan(self, job: Job, decided: Move | Delete) -> tuple[Errand, ...]:
        """Write down what is to be done; nothing, if the job is at work again."""
        source = job.present
        folder = _folder_of(source)
        if isinstance(decided, Delete):
            errands: tuple[Errand, ...] = (Errand(SOURCE, "delete", folder, source.name),)
            return errands if await self._store.plan(job.id, errands) == () else ()
        target = _target(job, decided)
        beside = [
            row
            for its_folder, row in await self._store.outputs(job.id)
            if its_folder == folder and row.sha256 is not None
        ]
        beside.sort(key=lambda row: row.format == _STATUS)  # it comes last: it tells of the others
        (names,) = await self._carrier.free_names(job, target, [source.name])
        new_name = next(names)
        wanted = [
            status_name(new_name)
            if row.format == _STATUS and row.name == status_name(source.name)
            else row.name
            for row in beside
        ]
        choices = await self._carrier.free_names(job, target, wanted)
        chosen = [next(names) for names in choices]
        while True:
            errands = (
                Errand(SOURCE, "move", folder, source.name, target, new_name),
                *(
                    Errand(row.format, "move", folder, row.name, target, name)
                    for row, name in zip(beside, chosen, strict=True)
                ),
            )
            refused = await self._store.plan(job.id, errands)
            if not refused:
                return () if refused is None else errands
            chosen = [
                next(names) if row.format in refused else name
                for row, name, names in zip(beside, chosen, choices, strict=True)
            ]

    async def _tell(self, job: Job, where: bytes | None, *, shown: bool) -> None:
        event, detail = ("deleted", "") if where is None else ("moved", for_terminal(where))
        await self._store.over(job.id, event, detail, shown=shown)
        faultpoints.reach("after.over")
        _log.info(f"job.{event}", job=job.id, file=for_terminal(job.source.rel), to=detail or None)


def _folder_of(ref: FileRef) -> bytes:
    """The absolute folder of a recording, as outputs beside it record theirs."""
    rel = ref.rel.rpartition(b"/")[0]
    return os.path.join(ref.root, rel) if rel else ref.root


def _target(job: Job, decided: Move) -> bytes:
    """The absolute folder to move to; the tree below the inbox is kept."""
    below = os.path.normpath(os.path.join(decided.folder, job.source.rel.rpartition(b"/")[0]))
    return os.path.join(job.source.root, below)


def _check(ref: FileRef) -> None:
    """See that a recording is exactly the one that settled; it need not be readable.

    Raises:
        SourceChanged, SourceVanished: it is not, or is gone.
        Fault: ``inbox.lost``.
    """
    with root_of(ref) as root:
        try:
            stat = root.stat_key(ref.rel)
        except OSError as error:
            raise Fault("source.io", error.strerror or "") from error
        if stat is None:
            if not root.has_left(ref.rel, ref.stat):
                raise Fault("inbox.lost", "another file system is mounted there")
            raise SourceVanished
        if stat != ref.stat:
            raise SourceChanged
