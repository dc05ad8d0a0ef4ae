"""Giving a finished file its name, or another one, atomically and never over a file that is there.

Owns the three ways of doing so and the order in which they are tried. Knows nothing of what is in the file.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable, Sequence

# Answers of file systems and kernels that do not know the call (vfat and some FUSE servers say EPERM to
# link(2); file systems without renameat2 flags say EINVAL, see renameat2(2)).
_UNKNOWN = frozenset(
    {errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV}
)
_RENAME_NOREPLACE = 1  # linux/fs.h
_RENAME_EXCL = 4  # macOS, sys/stdio.h

Way = Callable[[int, bytes, bytes], None]


def publish(dir_fd: int, temp: bytes, name: bytes, ways: Sequence[Way] | None = None) -> None:
    """Rename ``temp`` to ``name`` within one folder; the first way that the file system knows counts.

    Raises:
        FileExistsError: something has the name; ``temp`` is still there.
        OSError: as the operating system says; ``temp`` is still there.
    """
    *better, last = ways or (rename_exclusive, link_and_unlink, look_and_rename)
    for way in better:
        try:
            return way(dir_fd, temp, name)
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
    return last(dir_fd, temp, name)


# Each way can also lead into another folder, ``to_fd``.


def rename_exclusive(dir_fd: int, temp: bytes, name: bytes, to_fd: int | None = None) -> None:
    """One call: renameat2(RENAME_NOREPLACE) on Linux, renameatx_np(RENAME_EXCL) on macOS."""
    call = _exclusive_call()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if number := call(dir_fd, temp, dir_fd if to_fd is None else to_fd, name):
        raise OSError(number, os.strerror(number), name)


def link_and_unlink(dir_fd: int, temp: bytes, name: bytes, to_fd: int | None = None) -> None:
    """A second name for the file, then the first one away. Between the two calls it has both."""
    target = dir_fd if to_fd is None else to_fd
    try:
        os.link(temp, name, src_dir_fd=dir_fd, dst_dir_fd=target, follow_symlinks=False)
    except FileExistsError:
        # A network file system may have done it and lost the answer (open(2) on O_EXCL and NFS).
        mine = os.stat(temp, dir_fd=dir_fd, follow_symlinks=False)
        there = os.stat(name, dir_fd=target, follow_symlinks=False)
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            raise
    os.unlink(temp, dir_fd=dir_fd)


def look_and_rename(dir_fd: int, temp: bytes, name: bytes, to_fd: int | None = None) -> None:
    """For file systems with nothing better: a file that appears between look and rename is lost."""
    target = dir_fd if to_fd is None else to_fd
    try:
        os.stat(name, dir_fd=target, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(temp, name, src_dir_fd=dir_fd, dst_dir_fd=target)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


@functools.cache
def _exclusive_call() -> Callable[[int, bytes, int, bytes], int] | None:
    """Return the C library's exclusive rename as a function that answers 0 or an errno; None: it has none."""
    import ctypes  # only once something is written

    library = ctypes.CDLL(None, use_errno=True)
    symbol, flag = (
        ("renameatx_np", _RENAME_EXCL) if sys.platform == "darwin" else ("renameat2", _RENAME_NOREPLACE)
    )
    try:
        function = library[symbol]
    except AttributeError:  # musl before 1.2.6, glibc before 2.28
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    function.restype = ctypes.c_int

    def call(dir_fd: int, temp: bytes, to_fd: int, name: bytes) -> int:
        return 0 if function(dir_fd, temp, to_fd, name, flag) == 0 else ctypes.get_errno()

    return call
