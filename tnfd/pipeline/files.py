"""The pipeline's reach into people's folders: sources opened for reading, folders opened for writing.

Each root has a thread of its own, so that a share that hangs stops only the jobs on it; and those wait for
its answer no longer than for a share that is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tnfd.errors import Fault, SourceChanged, SourceVanished
from tnfd.model import FileRef, Job, JobSettings, StatKey
from tnfd.ports.clock import Clock
from tnfd.root import Root
from tnfd.threads import FileThread

T = TypeVar("T")

PATIENCE_S = 20.0  # as for the inbox's own thread: what takes longer counts as hanging


class FileThreads:
    """One thread a root, started when first needed.

    ``patience_s``: how long (seconds) a call may take before its file system counts as lost; None: for ever.
    """

    def __init__(self, clock: Clock, *, patience_s: float | None = PATIENCE_S) -> None:
        self._clock = clock
        self._patience_s = patience_s
        self._threads: dict[bytes, FileThread] = {}

    async def run(
        self,
        root: bytes,
        call: Callable[..., T],
        *args: object,
        undo: Callable[[], object] | None = None,
    ) -> T:
        """Run a blocking call in the root's thread.

        A call that was begun ends some time, even if it was cancelled or given up meanwhile: ``undo`` then
        runs after it. While one hangs, all others fail at once.

        Raises:
            Fault: ``inbox.lost``, if there was no answer in time; and whatever ``call`` raises.
        """
        thread = self._thread(root)
        self._check_answers(thread)
        try:
            async with asyncio.timeout(self._patience_s) as bound:
                return await thread.run(call, *args)
        except (TimeoutError, asyncio.CancelledError) as error:
            if undo is not None:
                with contextlib.suppress(RuntimeError):
                    thread.post(undo)
            if bound.expired() and isinstance(error, TimeoutError):
                raise _silent() from error
            raise

    def _check_answers(self, thread: FileThread) -> None:
        since = thread.busy_since
        if since is None or self._patience_s is None:
            return
        if self._clock.monotonic() - since > self._patience_s:
            raise _silent()

    def post(self, root: bytes, call: Callable[..., object], *args: object) -> None:
        """Run a call after those at hand, for tidying up; nobody hears of its result."""
        self._thread(root).post(call, *args)

    def _thread(self, root: bytes) -> FileThread:
        thread = self._threads.get(root)
        if thread is None:
            thread = self._threads[root] = FileThread(os.fsdecode(root), self._clock)
        return thread

    async def close(self) -> None:
        """End the threads; one that hangs is left behind."""
        for thread in self._threads.values():
            await thread.close()


def _silent() -> Fault:
    return Fault("inbox.lost", "the file system does not answer")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job's outputs go: a folder below a root."""

    root: bytes
    rel: bytes
    create: bool  # a mirrored tree is made; the folder beside a source must be there

    @property
    def path(self) -> bytes:
        """The absolute path."""
        return os.path.join(self.root, self.rel) if self.rel else self.root

    @contextlib.contextmanager
    def open(self) -> Iterator[int]:
        """Give a handle of the folder.

        Raises:
            Fault: ``inbox.lost`` (the root is not there), ``output.unwritable``; SourceVanished: the folder
                beside the source has gone with it.
        """
        try:
            if self.create:
                os.makedirs(self.root, exist_ok=True)
            root = Root(self.root)
        except OSError as error:
            code = "output.unwritable" if self.create else "inbox.lost"
            raise Fault(code, error.strerror or "") from error
        with root, contextlib.ExitStack() as stack:
            try:
                fd = stack.enter_context(root.directory(self.rel, create=self.create))
            except FileNotFoundError as error:
                raise SourceVanished("its folder is gone") from error
            except OSError as error:
                raise Fault("output.unwritable", error.strerror or "") from error
            yield fd


def place_of(job: Job) -> Place:
    """Where this job's outputs and status file go: beside the recording, if not into a tree of their own."""
    if job.settings.output_dir:
        return place_for(job.source, job.settings)
    return place_for(job.present, job.settings)


def place_for(source: FileRef, settings: JobSettings) -> Place:
    """Where the outputs of a recording go."""
    folder = source.rel.rpartition(b"/")[0]
    if settings.output_dir:
        return Place(os.fsencode(settings.output_dir), folder, create=True)
    return Place(source.root, folder, create=False)


def root_of(ref: FileRef) -> Root:
    """Open the root of a file.

    Raises:
        Fault: ``inbox.lost``.
    """
    try:
        return Root(ref.root)
    except OSError as error:
        raise Fault("inbox.lost", error.strerror or "") from error


def open_settled(ref: FileRef) -> tuple[int, os.stat_result]:
    """Open a source that must still be the one that was settled; blocking, the caller closes it.

    Raises:
        SourceChanged, SourceVanished: it is not, or is gone.
        Fault: ``inbox.lost`` where the whole root is; else as ``Root.open_source``.
    """
    with root_of(ref) as root:
        try:
            fd, st = root.open_source(ref.rel)
        except SourceVanished as gone:
            # An empty mount point is there although the share is not: nothing counts as deleted then.
            if not root.has_left(ref.rel, ref.stat):
                raise Fault("inbox.lost", "its file system is not mounted there") from gone
            raise
    if StatKey.of(st) != ref.stat:
        os.close(fd)
        raise SourceChanged
    return fd, st


def check_settled(ref: FileRef) -> os.stat_result:
    """Look at a source again, as ``open_settled`` does; return its stat."""
    fd, st = open_settled(ref)
    os.close(fd)
    return st
