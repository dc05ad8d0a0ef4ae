"""A folder held open: every path below it is opened component by component and never through a link.

Owns directory handles. What is opened is looked at only after it is open (no race between check and use),
opening never blocks on a pipe, and whatever is not a regular file is refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from tnfd.errors import Fault, SourceVanished
from tnfd.model import StatKey

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

# What open() answers for a link, a socket or a device without a driver.
_NOT_REGULAR = frozenset({errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENODEV, errno.EISDIR})
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})


def fault_of_open(error: OSError) -> Fault:
    """Translate the failure to open or read a source file."""
    detail = error.strerror or str(error)
    if error.errno in _GONE:
        return SourceVanished(detail)
    if error.errno in (errno.EACCES, errno.EPERM):
        return Fault("source.unreadable", detail)
    if error.errno in _NOT_REGULAR:
        return Fault("source.not_regular")
    return Fault("source.io", detail)


def _holds_something(fd: int) -> bool:
    """Whether a folder has entries that are not of our making: status files come even to a mount point."""
    with os.scandir(fd) as listing:
        return any(not one.name.startswith(".") and not one.name.endswith(".status.json") for one in listing)


def _refuse_dots(part: bytes) -> None:
    if part == b"..":
        raise OSError(errno.EINVAL, "'..' in a path below a root")


class Root:
    """An open folder. A context manager; all methods block and belong into the inbox's own thread.

    ``path`` is what the user wrote, made absolute; it may itself be reached through links.
    """

    def __init__(self, path: bytes) -> None:
        """Open the folder.

        Raises:
            OSError: the folder is missing, not a folder, or not permitted.
        """
        self.path = path
        # The root itself may be a link (people link their cloud folders); nothing below it may.
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the handle; harmless twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @property
    def fd(self) -> int:
        """The directory handle; owned by this object."""
        return self._fd

    def identity(self) -> tuple[int, int]:
        """(device, inode) of the folder that is held open."""
        st = os.fstat(self._fd)
        return st.st_dev, st.st_ino

    def still_there(self) -> bool:
        """Whether the path still leads to the folder that is held open."""
        try:
            st = os.stat(self.path)
        except OSError:
            return False
        return (st.st_dev, st.st_ino) == self.identity()

    def is_permitted(self) -> bool:
        """Whether this user may still list the folder and open what is in it."""
        effective = os.access in os.supports_effective_ids
        try:
            return os.access(b".", os.R_OK | os.X_OK, dir_fd=self._fd, effective_ids=effective)
        except OSError:
            return False

    @contextlib.contextmanager
    def directory(self, rel: bytes, *, create: bool = False) -> Iterator[int]:
        """Give a handle of the folder ``rel`` (b"" is the root); closed on leaving.

        With ``create``, missing folders are made (mode 0777 less the umask).

        Raises:
            OSError: as the operating system says; a link on the way is ELOOP or ENOTDIR.
        """
        fd = os.dup(self._fd)
        try:
            for part in rel.split(b"/"):
                if part in (b"", b"."):
                    continue
                _refuse_dots(part)
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=fd)
                deeper = os.open(part, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = deeper
            yield fd
        finally:
            os.close(fd)

    def open_source(self, rel: bytes) -> tuple[int, os.stat_result]:
        """Open a source file for reading; the caller closes the descriptor.

        Raises:
            SourceVanished: nothing is there.
            Fault: ``source.unreadable``, ``source.not_regular`` or ``source.io``.
        """
        folder, _, name = rel.rpartition(b"/")
        try:
            with self.directory(folder) as parent:
                _refuse_dots(name)
                # Looking first keeps an open() from waking a device or a pipe's writer; what counts
                # is the look after opening.
                if not stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                    raise Fault("source.not_regular")
                fd = os.open(name, _FILE, dir_fd=parent)
        except OSError as error:
            raise fault_of_open(error) from error
        try:
            st = os.fstat(fd)
            if not stat.S_ISREG(st.st_mode):
                raise Fault("source.not_regular")
        except BaseException:
            os.close(fd)
            raise
        return fd, st

    def look(self, rel: bytes) -> os.stat_result | None:
        """Stat a path below the root without following links; None if nothing is there.

        Raises:
            OSError: the share does not answer, or permission is missing.
        """
        folder, _, name = rel.rpartition(b"/")
        try:
            with self.directory(folder) as parent:
                _refuse_dots(name)
                return os.stat(name, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            if error.errno in _GONE or error.errno in _NOT_REGULAR:
                return None
            raise

    def attributes(self, rel: bytes, name: str) -> bytes | None:
        """An extended attribute of a file, read without opening it; None: there is none, or no way to it."""
        folder, _, base = rel.rpartition(b"/")
        try:
            with self.directory(folder) as parent:
                path = b"/proc/self/fd/%d/%s" % (parent, base)
                return os.getxattr(path, name, follow_symlinks=False)
        except (OSError, AttributeError):  # not everywhere are there extended attributes
            return None

    def has_left(self, rel: bytes, was: StatKey) -> bool:
        """Whether a file that is not there was removed; False: its file system may be what is missing.

        Device numbers change at a reboot and with a new mount, and an empty mount point looks like a folder
        from which everything was deleted. Under the number that the file had, its file system is there.
        Under another, taking out the name must have touched the folder that is left, whose ctime nobody can
        set; and something must say that this is no bare mount point: a mount, or what other people put there.
        """
        try:
            with self._nearest(rel) as fd:
                folder = os.fstat(fd)
                if was.dev in (folder.st_dev, self.identity()[0]):
                    return True
                if folder.st_ctime_ns < was.ctime_ns:
                    return False
                above = os.stat(b"..", dir_fd=self._fd)
                return folder.st_dev != above.st_dev or _holds_something(fd)
        except OSError:
            return False

    @contextlib.contextmanager
    def _nearest(self, rel: bytes) -> Iterator[int]:
        """Give a handle of the deepest folder above ``rel`` that is there."""
        folder = rel.rpartition(b"/")[0]
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    fd = stack.enter_context(self.directory(folder))
                except OSError as error:
                    if not folder or error.errno not in _GONE:
                        raise
                    folder = folder.rpartition(b"/")[0]
                else:
                    break
            yield fd

    def stat_key(self, rel: bytes) -> StatKey | None:
        """The stat key of a regular file below the root; None if there is none."""
        st = self.look(rel)
        return StatKey.of(st) if st is not None and stat.S_ISREG(st.st_mode) else None
