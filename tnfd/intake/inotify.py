"""File events on Linux, read from the kernel itself: inotify(7) by way of the C library.

Tells what a library on top of it hides and intake has use for: that a writer has closed a file, that a name
came by a rename, that the queue overflowed, that there is no watch left for a new folder. Follows no link,
watches no folder that is left out, and takes names as bytes. Owns one thread for each watcher; a folder that
appears is watched first and then told of, so that whoever lists it then misses nothing. Decides nothing
about files, and may fall silent all the same: the scan is the truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

from tnfd.intake.watch import Hint, Kind, WatcherDied

BATCH_S = 0.02  # from the first event to the reading of all that came meanwhile; idle it sleeps for good

_CLOSE_WRITE, _ATTRIB = 0x8, 0x4
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_UNMOUNT, _OVERFLOW, _IGNORED = 0x2000, 0x4000, 0x8000
_ONLYDIR, _DONT_FOLLOW, _EXCL_UNLINK = 0x1000000, 0x2000000, 0x4000000
_ISDIR = 0x40000000
# Not IN_MODIFY: a recorder at work would wake us all day, and what counts is that it has closed the file.
_FOLDER = _CLOSE_WRITE | _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLYDIR | _EXCL_UNLINK
_ROOT = _FOLDER | _DELETE_SELF | _MOVE_SELF

_HEADER = struct.Struct("iIII")
_READ_BYTES = 256 * 1024
_LIMIT = "the limit of file watches is reached; raise the sysctl fs.inotify.max_user_watches"
_NO_INSTANCE = "no inotify instance is left; raise the sysctl fs.inotify.max_user_instances"
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ESTALE})


def _load() -> Any:
    """The C library, if it has inotify; None elsewhere."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        library.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
    except (OSError, AttributeError):
        return None
    return library


_library = _load()


def is_available() -> bool:
    """Whether this system has inotify."""
    return _library is not None


class InotifyWatcher:
    """One watcher over one folder, as an async context manager: once entered, all watches stand.

    ``skip`` says of a folder's relative path that nothing below it is of interest.
    """

    def __init__(
        self,
        path: bytes,
        *,
        recursive: bool = True,
        skip: Callable[[bytes], bool] = lambda _rel: False,
        batch_s: float = BATCH_S,
    ) -> None:
        self._path = path
        self._recursive = recursive
        self._skip = skip
        self._batch_s = batch_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._batches: asyncio.Queue[list[Hint] | WatcherDied] = asyncio.Queue()
        self._armed = asyncio.Event()
        self._fd = -1
        self._wake_read, self._wake_write = -1, -1
        self._stopped = threading.Event()
        self._rels: dict[int, bytes] = {}  # watch -> folder
        self._watches: dict[bytes, int] = {}

    async def __aenter__(self) -> Self:
        """Start watching.

        Raises:
            WatcherDied: it could not be started.
        """
        self._loop = asyncio.get_running_loop()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        threading.Thread(target=self._work, name="watch", daemon=True).start()
        try:
            await self._armed.wait()
        except BaseException:
            self._stop()
            raise
        if not self._batches.empty() and isinstance(death := self._batches.get_nowait(), WatcherDied):
            self._stop()
            raise death
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Stop watching; the thread ends by itself at once, unless a file system holds it."""
        self._stop()

    async def hints(self) -> list[Hint]:
        """Return the next batch of hints.

        Raises:
            WatcherDied: there will be no more.
        """
        batch = await self._batches.get()
        if isinstance(batch, WatcherDied):
            raise batch
        return batch

    def abandon(self, why: str, *, unproven: bool = False) -> None:
        """End this watcher as if it had died: it has gone blind somewhere."""
        self._batches.put_nowait(WatcherDied(why, unproven=unproven))

    def _stop(self) -> None:
        fd, self._wake_write = self._wake_write, -1
        if fd >= 0:
            self._stopped.set()
            os.close(fd)  # wakes the thread

    # -- in the thread -------------------------------------------------------------------------------------

    def _work(self) -> None:
        died = WatcherDied("it was stopped")
        try:
            self._fd = _library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd < 0:
                self._fail(ctypes.get_errno())
            self._enter(b"")
            if b"" not in self._watches:
                raise WatcherDied("the folder cannot be watched")
            self._call(self._armed.set)
            self._read()
        except WatcherDied as death:
            died = death
        except OSError as error:
            died = WatcherDied(error.strerror or str(error))
        finally:
            for fd in (self._fd, self._wake_read):
                if fd >= 0:
                    os.close(fd)
            self._call(self._batches.put_nowait, died)
            self._call(self._armed.set)

    def _read(self) -> None:
        events, wake = select.poll(), select.poll()
        events.register(self._fd, select.POLLIN)
        for poll in (events, wake):
            poll.register(self._wake_read, select.POLLIN)
        while not self._stopped.is_set():
            events.poll()
            if wake.poll(self._batch_s * 1000):
                return
            hints: dict[tuple[bytes, Kind], Hint] = {}
            for hint in self._hints():
                had = hints.get((hint.rel, hint.kind))
                if had is None or hint.moved:
                    hints[hint.rel, hint.kind] = hint
            if hints:
                self._call(self._batches.put_nowait, list(hints.values()))

    def _hints(self) -> Iterator[Hint]:
        while True:
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                watch, mask, _, length = _HEADER.unpack_from(data, at)
                name = data[at + _HEADER.size : at + _HEADER.size + length].rstrip(b"\0")
                at += _HEADER.size + length
                yield from self._translate(watch, mask, name)

    def _translate(self, watch: int, mask: int, name: bytes) -> Iterator[Hint]:
        if mask & _OVERFLOW:
            self._enter(b"")  # folders may have come of which nobody told
            yield Hint(b"", "overflow")
            return
        folder = self._rels.get(watch)
        if folder is None:
            return
        if mask & (_IGNORED | _UNMOUNT | _DELETE_SELF | _MOVE_SELF):
            if mask & _IGNORED:
                self._forget(folder, watch)
            if not folder:
                yield Hint(b"", "deleted")
            return
        if not name:
            return  # about the folder itself, whose parent tells the same
        rel = folder + b"/" + name if folder else name
        if mask & _ISDIR:
            yield from self._folder(rel, mask)
        elif mask & (_MOVED_FROM | _DELETE):
            yield Hint(rel, "deleted")
        else:
            kind: Kind = "modified" if mask & (_CLOSE_WRITE | _ATTRIB) else "added"
            yield Hint(rel, kind, moved=bool(mask & _MOVED_TO))

    def _folder(self, rel: bytes, mask: int) -> Iterator[Hint]:
        if mask & (_MOVED_FROM | _DELETE):
            self._leave(rel)
            yield Hint(rel, "deleted")
        elif mask & (_MOVED_TO | _CREATE | _ATTRIB):  # it may have become readable
            if self._recursive and not self._skip(rel):
                self._enter(rel)
            if not mask & _ATTRIB:
                yield Hint(rel, "folder")

    def _enter(self, start: bytes) -> None:
        """Watch a folder and all below it; what is watched already stays so."""
        pending = [start]
        while pending and not self._stopped.is_set():
            rel = pending.pop()
            path = os.path.join(self._path, rel) if rel else self._path
            flags = _FOLDER | _DONT_FOLLOW if rel else _ROOT  # people link their cloud folders
            watch = _library.inotify_add_watch(self._fd, path, flags)
            if watch < 0:
                error = ctypes.get_errno()
                if error not in _GONE or not rel:
                    self._fail(error)
                continue
            self._note(rel, watch)
            if self._recursive:
                pending += self._below(rel, path)

    def _below(self, rel: bytes, path: bytes) -> list[bytes]:
        found = []
        with contextlib.suppress(OSError), os.scandir(path) as listing:
            for entry in listing:
                if entry.is_dir(follow_symlinks=False):
                    below = rel + b"/" + entry.name if rel else entry.name
                    if not self._skip(below):
                        found.append(below)
        return found

    def _note(self, rel: bytes, watch: int) -> None:
        former = self._rels.get(watch)
        if former is not None and former != rel and self._watches.get(former) == watch:
            del self._watches[former]  # the same folder, moved
        self._rels[watch], self._watches[rel] = rel, watch

    def _forget(self, rel: bytes, watch: int) -> None:
        self._rels.pop(watch, None)
        if self._watches.get(rel) == watch:
            del self._watches[rel]

    def _leave(self, start: bytes) -> None:
        """Stop watching a folder that left; it would go on to report under its old name."""
        below = start + b"/"
        for rel in [rel for rel in self._watches if rel == start or rel.startswith(below)]:
            watch = self._watches.pop(rel)
            self._rels.pop(watch, None)
            _library.inotify_rm_watch(self._fd, watch)

    def _fail(self, error: int) -> None:
        if error == errno.ENOSPC:
            raise WatcherDied(_LIMIT, hopeless=True)
        if error in (errno.EMFILE, errno.ENFILE):
            raise WatcherDied(_NO_INSTANCE, hopeless=True)
        raise WatcherDied(os.strerror(error))

    def _call(self, callback: Callable[..., object], *args: object) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(callback, *args)
