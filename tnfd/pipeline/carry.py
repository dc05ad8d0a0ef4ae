"""One file of a finished job on its way: looks where it is, does the next step, until it has arrived.

Whatever was done before a kill is found by looking, never assumed. Nothing is replaced: a name that is taken
when the file comes gives way to the next one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TypeVar

from tnfd import faultpoints
from tnfd.errors import Fault, NameTaken, SourceChanged, SourceVanished
from tnfd.model import Job, StatKey
from tnfd.pipeline.files import FileThreads
from tnfd.ports.after import SOURCE, AfterStore, Errand
from tnfd.ports.outputs import Outputs
from tnfd.root import Root
from tnfd.rules.names import fold, moved_names

T = TypeVar("T")

_BOUND = 1000  # names to try; more are taken only by somebody who means it


class _Step(Enum):
    ARRIVED = auto()
    ACROSS = auto()  # the target is on another file system
    TAKEN = auto()  # something else has the name


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file at one end of the way: its stat if it is the one that is meant."""

    st: os.stat_result | None

    @property
    def ino(self) -> int | None:
        return None if self.st is None else self.st.st_ino


class Carrier:
    """Brings files to where their errands say. Blocking calls run in the inbox's thread of ``files``."""

    def __init__(self, store: AfterStore, outputs: Outputs, files: FileThreads) -> None:
        self._store = store
        self._outputs = outputs
        self._files = files

    async def carry(self, job: Job, errand: Errand, sha256: str | None) -> bytes | None:
        """Do what is left of an errand and record it; return the name that the file has now.

        ``sha256`` is the content of an output or status file; of a recording the job tells.

        Raises:
            SourceChanged, SourceVanished: the recording is not the one that was settled; it was not touched.
            Fault: ``output.*``, ``inbox.lost``; to be tried again.
        """
        if errand.act == "delete":
            await self._run(job, self._delete, job, errand)
            await self._store.arrived(job.id, errand.part, None)
            faultpoints.reach("after.recorded")
            return None
        for _ in range(_BOUND):
            step, stat = await self._run(job, self._step, job, errand, sha256)
            if step is _Step.ARRIVED:
                faultpoints.reach("after.renamed")
                await self._store.arrived(job.id, errand.part, stat)
                faultpoints.reach("after.recorded")
                return errand.to_name
            copied = await self._across(job, errand, sha256) if step is _Step.ACROSS else None
            errand = copied or await self._next_name(job, errand)
        raise Fault("output.io", f"no free name for {os.fsdecode(errand.to_name)}")

    async def _run(self, job: Job, call: Callable[..., T], *args: object) -> T:
        return await self._files.run(job.source.root, call, *args)

    # -- other names -----------------------------------------------------------------------------------

    async def free_names(self, job: Job, folder: bytes, wanted: list[bytes]) -> list[Iterator[bytes]]:
        """Names without end for each wanted one in a folder, best first; the folder is made if need be."""
        taken, limit = await self._run(job, self._prepare, job, folder)
        return [
            (other for other in moved_names(name, job.sha256 or "", limit=limit) if fold(other) not in taken)
            for name in wanted
        ]

    def _prepare(self, job: Job, folder: bytes) -> tuple[frozenset[str], int]:
        with _folder(job, folder, create=True) as fd:
            self._outputs.sweep(fd, job.id)
            return self._outputs.taken(fd), self._outputs.name_limit(fd)

    async def _next_name(self, job: Job, errand: Errand) -> Errand:
        """Choose the next name after the one that turned out to be taken."""
        (names,) = await self.free_names(job, errand.to_folder, [errand.name])
        for name in names:
            if name != errand.to_name and await self._store.rename(job.id, errand.part, name):
                return replace(errand, to_name=name, copied_ino=None)
        raise AssertionError("there is no end of names")

    # -- one step, in the thread -----------------------------------------------------------------------

    def _delete(self, job: Job, errand: Errand) -> None:
        try:
            with _folder(job, errand.folder) as fd:
                self._outputs.remove(fd, errand.name, job=job.id, key=job.source.stat)
        except FileNotFoundError:
            return  # its folder has left with it

    def _step(self, job: Job, errand: Errand, sha256: str | None) -> tuple[_Step, StatKey | None]:
        with contextlib.ExitStack() as stack:
            to_fd = stack.enter_context(_folder(job, errand.to_folder, create=True))
            try:
                from_fd = stack.enter_context(_folder(job, errand.folder))
            except FileNotFoundError:
                from_fd = -1
            here = self._seen(from_fd, errand.name, job, errand, sha256)
            there = self._seen(to_fd, errand.to_name, job, errand, sha256, arrived=True)
            if there.st is not None and _is_ours(there, here, errand):
                self._clear(from_fd, job, errand, here, sha256)
            elif here.st is None:
                if errand.part == SOURCE:
                    raise SourceVanished
                return _Step.ARRIVED, None  # somebody took it, or has edited it since: it is theirs now
            else:
                try:
                    if not self._outputs.rename(from_fd, errand.name, to_fd, errand.to_name):
                        free = self._outputs.look(to_fd, errand.to_name) is None
                        return (_Step.ACROSS if free else _Step.TAKEN), None
                except NameTaken:
                    return _Step.TAKEN, None
            return _Step.ARRIVED, self._moved(from_fd, to_fd, job, errand)

    def _seen(
        self, fd: int, name: bytes, job: Job, errand: Errand, sha256: str | None, *, arrived: bool = False
    ) -> _Seen:
        st = self._outputs.look(fd, name) if fd >= 0 else None
        if st is None:
            return _Seen(None)
        if errand.part == SOURCE:
            stat = StatKey.of(st)
            mine = _has_come(job, errand, stat) if arrived else job.source.stat.same_content(stat)
        else:
            mine = self._outputs.digest(fd, name) == sha256
        return _Seen(st if mine else None)

    def _clear(self, fd: int, job: Job, errand: Errand, here: _Seen, sha256: str | None) -> None:
        """Remove what is left at the beginning of the way: it was copied, or has two names for a moment."""
        if fd < 0:
            return
        if errand.part == SOURCE:
            with contextlib.suppress(SourceChanged):  # another recording has come to its place
                self._outputs.remove(fd, errand.name, job=job.id, key=job.source.stat)
        elif here.st is not None and sha256 is not None:
            self._outputs.remove_own(fd, errand.name, own=(sha256,))
        faultpoints.reach("after.cleared")

    def _moved(self, from_fd: int, to_fd: int, job: Job, errand: Errand) -> StatKey | None:
        """Look at a recording that has just arrived; one that is another goes back."""
        if errand.part != SOURCE:
            return None
        st = self._outputs.look(to_fd, errand.to_name)
        if st is None:
            raise SourceVanished("right after it was moved")
        stat = StatKey.of(st)
        if not _has_come(job, errand, stat):
            with contextlib.suppress(NameTaken):
                self._outputs.rename(to_fd, errand.to_name, from_fd, errand.name)
            raise SourceChanged("right before it was moved")
        return stat

    # -- where a rename does not reach -----------------------------------------------------------------

    async def _across(self, job: Job, errand: Errand, sha256: str | None) -> Errand | None:
        """Put a whole copy into the target folder; None: its name has been taken meanwhile.

        The next look finds the copy and removes what was copied.
        """
        if errand.part == SOURCE:
            sha256 = job.sha256
        temp, ino = await self._run(job, self._copy, job, errand, sha256)
        faultpoints.reach("after.copied")
        await self._store.copied(job.id, errand.part, ino)
        named = await self._run(job, self._name, job, errand, temp)
        faultpoints.reach("after.named")
        return replace(errand, copied_ino=ino) if named else None

    def _copy(self, job: Job, errand: Errand, sha256: str | None) -> tuple[bytes, int]:
        with _folder(job, errand.folder) as from_fd, _folder(job, errand.to_folder, create=True) as to_fd:
            self._outputs.sweep(to_fd, job.id)
            return self._outputs.copy(from_fd, errand.name, to_fd, job=job.id, sha256=sha256)

    def _name(self, job: Job, errand: Errand, temp: bytes) -> bool:
        with _folder(job, errand.to_folder) as fd, contextlib.suppress(NameTaken):
            return self._outputs.rename(fd, temp, fd, errand.to_name)
        return False


def _has_come(job: Job, errand: Errand, stat: StatKey) -> bool:
    """Whether this is the recording, at the end of its way.

    The inode does not count: a copy has its own, and some file systems in user space give a new one for a
    new name.
    """
    was = job.source.stat
    same = (was.size_bytes, was.mtime_ns) == (stat.size_bytes, stat.mtime_ns)
    return same or (stat.ino == errand.copied_ino and stat.size_bytes == was.size_bytes)


def _is_ours(there: _Seen, here: _Seen, errand: Errand) -> bool:
    """Whether what lies at the end of the way was brought there by us, and not by chance has this content."""
    return here.st is None or there.ino in (here.ino, errand.copied_ino)


@contextlib.contextmanager
def _folder(job: Job, folder: bytes, *, create: bool = False) -> Iterator[int]:
    """Give a handle of a folder of the job's inbox.

    Raises:
        FileNotFoundError: it is not there.
        Fault: ``inbox.lost``, ``output.unwritable``.
    """
    try:
        root = Root(job.source.root)
    except OSError as error:
        raise Fault("inbox.lost", error.strerror or "") from error
    with root, contextlib.ExitStack() as stack:
        try:
            rel = os.path.relpath(folder, job.source.root)
            fd = stack.enter_context(root.directory(rel, create=create))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Fault("output.unwritable", f"{os.fsdecode(folder)}: {error.strerror}") from error
        yield fd
