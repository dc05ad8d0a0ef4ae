"""Taking a finished recording, or what lies beside it, to another folder, or away; never over anything.

Owns the single steps: rename, copy to where a rename does not reach, naming the copy, removing. Each can be
repeated after a kill between any two. Which step comes next, and what was done before, others know.
Blocking, as ``outputs.write``; all names are single components below open directory handles.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from functools import partial

from tnfd import faultpoints
from tnfd.errors import Fault, NameTaken, SourceChanged, SourceVanished
from tnfd.model import StatKey
from tnfd.outputs.publish import link_and_unlink, look_and_rename, publish, rename_exclusive
from tnfd.outputs.write import (
    NO_SUCH_SERVICE,
    NOT_PERMITTED,
    fault_of_write,
    hash_file,
    open_regular,
    sync,
    temp_name,
    temp_prefix,
    tolerating,
)

_PIECE_BYTES = 1 << 20


def rename(from_fd: int, name: bytes, to_fd: int, to_name: bytes) -> bool:
    """Rename, durably; False (and nothing done) where the target is on another file system.

    Raises:
        NameTaken: something has the name.
        SourceVanished: there is nothing to rename.
        Fault: ``output.disk_full``, ``output.unwritable`` or ``output.io``.
    """
    ways = [partial(way, to_fd=to_fd) for way in (rename_exclusive, link_and_unlink, look_and_rename)]
    try:
        publish(from_fd, name, to_name, ways)
        sync(to_fd)
        sync(from_fd)
    except FileExistsError as error:
        raise NameTaken(repr(to_name)) from error
    except FileNotFoundError as error:
        raise SourceVanished from error
    except OSError as error:
        if error.errno == errno.EXDEV:
            return False
        raise fault_of_write(error) from error
    return True


def copy(from_fd: int, name: bytes, to_fd: int, *, job: str, sha256: str | None) -> tuple[bytes, int]:
    """Copy into a temporary file of the target folder, durably; return its name and its inode.

    It is compared with the source by hash, read back from disk, and has the source's times and permissions.

    Raises:
        SourceChanged: the source is not what ``sha256`` says, or changed meanwhile; SourceVanished: it left.
        Fault: as ``rename``. No temporary file is left then.
    """
    temp = temp_name(job)
    try:
        source = open_regular(from_fd, name)
        if source is None:
            raise SourceVanished
        try:
            before = os.fstat(source)
            digest = _fill(source, to_fd, temp, before)
            after = os.fstat(source)
        finally:
            os.close(source)
        if StatKey.of(before) != StatKey.of(after) or (sha256 or digest) != digest:
            raise SourceChanged("while it was copied")
        if hash_file(to_fd, temp, from_disk=True) != digest:
            raise Fault("output.io", "what was read back differs from what was written")
        sync(to_fd)
        return temp, os.stat(temp, dir_fd=to_fd, follow_symlinks=False).st_ino
    except BaseException as error:
        _forget(to_fd, temp)
        if isinstance(error, OSError):
            raise fault_of_write(error) from error
        raise


def remove(dir_fd: int, name: bytes, *, job: str, key: StatKey) -> None:
    """Delete the recording ``name`` if it is the one that ``key`` describes; harmless where it is gone.

    It first gets a hidden name, so that what is looked at and what is deleted are one and the same, whoever
    puts another file in its place meanwhile.

    Raises:
        SourceChanged: it is another file; that one has its name back.
        Fault: as ``rename``.
    """
    hidden = temp_prefix(job) + b"source.tmp"
    try:
        if look(dir_fd, hidden) is None:
            try:
                publish(dir_fd, name, hidden)
            except FileNotFoundError:
                return
            faultpoints.reach("after.hidden")
        there = look(dir_fd, hidden)
        if there is not None and not key.same_content(StatKey.of(there)):
            publish(dir_fd, hidden, name)
            raise SourceChanged("right before it was removed")
        os.unlink(hidden, dir_fd=dir_fd)
        sync(dir_fd)
    except FileExistsError as error:
        raise Fault("output.io", f"{os.fsdecode(hidden)} and {os.fsdecode(name)} are both there") from error
    except OSError as error:
        raise fault_of_write(error) from error


def look(dir_fd: int, name: bytes) -> os.stat_result | None:
    """Stat a regular file without following links; None if there is none.

    Raises:
        Fault: as ``rename``.
    """
    try:
        st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise fault_of_write(error) from error
    return st if stat.S_ISREG(st.st_mode) else None


def _fill(source: int, to_fd: int, temp: bytes, like: os.stat_result) -> str:
    """Write the copy with the times and permissions of ``like``; return the hash of what was read."""
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temp, flags, 0o600, dir_fd=to_fd)
    try:
        for piece in _pieces(source):
            digest.update(piece)
            left = memoryview(piece)
            while left:
                left = left[os.write(fd, left) :]
        with tolerating(NOT_PERMITTED | NO_SUCH_SERVICE):
            os.fchown(fd, like.st_uid, like.st_gid)
        with tolerating(NOT_PERMITTED | NO_SUCH_SERVICE):
            os.fchmod(fd, stat.S_IMODE(like.st_mode))
        os.utime(fd, ns=(like.st_atime_ns, like.st_mtime_ns))
        sync(fd)
    finally:
        os.close(fd)  # may raise as well: NFS tells of a full disk here
    return digest.hexdigest()


def _pieces(fd: int) -> Iterator[bytes]:
    while piece := os.read(fd, _PIECE_BYTES):
        yield piece


def _forget(dir_fd: int, temp: bytes) -> None:
    with contextlib.suppress(OSError):  # the failure that brought us here is the one to report
        os.unlink(temp, dir_fd=dir_fd)
