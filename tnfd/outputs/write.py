"""Writing one file into a folder so that no reader ever sees half of it and nothing foreign is ever lost.

Owns the temporary files (``.tnfd-<job>-<random>.tmp`` beside the result), permissions, fsync, and the check
that a file that is replaced is still the one that tnfd wrote. Never chooses names, never makes folders.
All functions block: they belong into a thread. ``dir_fd`` is an open directory handle.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator

from tnfd import faultpoints
from tnfd.errors import Fault, NameTaken
from tnfd.outputs.publish import publish

_TEMP_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_JOB = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PIECE_BYTES = 1 << 20
_NOTHING_TO_READ = frozenset(
    {errno.ENOENT, errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.ENODEV, errno.EISDIR}
)
NO_SUCH_SERVICE = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
NOT_PERMITTED = frozenset({errno.EPERM, errno.EACCES, errno.EROFS})

# Temporary files that some thread of this process is writing now: a sweep must leave them alone.
_in_work: set[bytes] = set()


def write_file(
    dir_fd: int,
    name: bytes,
    data: bytes,
    *,
    job: str,
    mode_from: os.stat_result | None = None,
    own: tuple[str, ...] = (),
    verify: bool = False,
) -> str:
    """Write ``data`` as ``name`` and return its sha256; durable on return.

    A file that is there is replaced only if its sha256 is one of ``own``. If it has exactly this content
    already (a crash came between writing and recording), it stays and counts as written.
    The file gets the read and write bits of ``mode_from`` whatever the umask, and the folder's group where
    that is permitted; without ``mode_from`` it gets what the umask leaves. ``verify`` reads it back.

    Raises:
        NameTaken: something else has the name; nothing was changed.
        Fault: ``output.disk_full``, ``output.unwritable`` or ``output.io``; no temporary file is left.
    """
    if b"/" in name or name in (b"", b".", b".."):
        raise ValueError(f"not a name: {name!r}")
    digest = hashlib.sha256(data).hexdigest()
    try:
        with _temporary(dir_fd, job) as temp:
            _fill(dir_fd, temp, data, mode_from)
            faultpoints.reach("output.temp_written")
            _give_name(dir_fd, temp, name, digest, own)
            faultpoints.reach("output.renamed")
        sync(dir_fd)
    except OSError as error:
        raise fault_of_write(error) from error
    if verify and hash_file(dir_fd, name, from_disk=True) != digest:
        raise Fault("output.io", "what was read back differs from what was written")
    return digest


def hash_file(dir_fd: int, name: bytes, *, from_disk: bool = False) -> str | None:
    """Return the sha256 of a regular file; None if there is none under this name (a link is none).

    ``from_disk`` asks the system to forget its cached pages first, so that the disk itself answers.

    Raises:
        Fault: ``output.unwritable`` (not permitted) or ``output.io``.
    """
    try:
        return _digest_of(dir_fd, name, from_disk=from_disk)
    except OSError as error:
        raise fault_of_write(error) from error


def read_file(dir_fd: int, name: bytes, *, max_bytes: int) -> bytes | None:
    """Return a regular file's content; None if there is none, or if it is larger than ``max_bytes``.

    Raises:
        Fault: as ``hash_file``.
    """
    try:
        fd = open_regular(dir_fd, name)
        if fd is None:
            return None
        with open(fd, "rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise fault_of_write(error) from error
    return data if len(data) <= max_bytes else None


def remove_file(dir_fd: int, name: bytes, *, own: tuple[str, ...]) -> bool:
    """Remove a file whose sha256 is one of ``own``; False (and nothing done) if it is another or gone.

    Raises:
        Fault: as ``write_file``.
    """
    if hash_file(dir_fd, name) not in own:
        return False
    try:
        os.unlink(name, dir_fd=dir_fd)
        sync(dir_fd)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise fault_of_write(error) from error
    return True


def sweep_temps(dir_fd: int, job: str) -> int:
    """Remove the temporary files that a killed process left for this job; return how many.

    No other job's and no foreign file can have such a name. Files being written right now stay.

    Raises:
        Fault: as ``write_file``.
    """
    prefix = temp_prefix(job)
    pattern = re.compile(re.escape(prefix) + rb"[0-9a-f]{8}\.tmp")
    swept = 0
    try:
        for name in list_names(dir_fd):
            if pattern.fullmatch(name) and name not in _in_work:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=dir_fd)
                    swept += 1
        if swept:
            sync(dir_fd)
    except OSError as error:
        raise fault_of_write(error) from error
    return swept


def list_names(dir_fd: int) -> list[bytes]:
    """Return the names in a folder.

    Raises:
        OSError: as the operating system says.
    """
    # A handle of its own: listing moves the read position, which duplicates of one handle share.
    own_fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return [os.fsencode(name) for name in os.listdir(own_fd)]
    finally:
        os.close(own_fd)


def name_limit(dir_fd: int) -> int:
    """Return how many bytes a name in this folder may have, at most 255 (143 on eCryptfs)."""
    try:
        limit = os.fpathconf(dir_fd, "PC_NAME_MAX")
    except OSError:
        return 255
    return limit if 64 <= limit <= 255 else 255


def fault_of_write(error: OSError) -> Fault:
    """Translate the failure to write below an output folder."""
    detail = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Fault("output.disk_full", detail)
    if error.errno in NOT_PERMITTED:
        return Fault("output.unwritable", detail)
    return Fault("output.io", detail)


def temp_prefix(job: str) -> bytes:
    """Return what the names of a job's temporary files begin with."""
    if not _JOB.fullmatch(job):
        raise ValueError(f"not a job id: {job!r}")
    return b".tnfd-" + job.encode() + b"-"


def temp_name(job: str) -> bytes:
    """Return a name for a temporary file that ``sweep_temps`` would know."""
    return temp_prefix(job) + secrets.token_hex(4).encode() + b".tmp"


@contextlib.contextmanager
def _temporary(dir_fd: int, job: str) -> Iterator[bytes]:
    """Give a name for a temporary file; whatever still has that name on leaving is removed."""
    temp = temp_name(job)
    _in_work.add(temp)
    try:
        yield temp
    finally:
        # The failure that brought us here is the one to report, not that of tidying up after it.
        with contextlib.suppress(OSError):
            os.unlink(temp, dir_fd=dir_fd)
        _in_work.discard(temp)


def _fill(dir_fd: int, temp: bytes, data: bytes, mode_from: os.stat_result | None) -> None:
    """Write, set permissions, and bring to disk. Until the bits are set nobody else may read it."""
    fd = os.open(temp, _TEMP_FLAGS, 0o666 if mode_from is None else 0o600, dir_fd=dir_fd)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left[:_PIECE_BYTES]) :]
        _share(fd, os.fstat(dir_fd).st_gid, mode_from)
        sync(fd)
    finally:
        os.close(fd)  # may raise as well: NFS tells of a full disk here


def _share(fd: int, gid: int, mode_from: os.stat_result | None) -> None:
    """Give the folder's group and the source's bits where the file system and our rights allow it."""
    if os.fstat(fd).st_gid != gid:
        with tolerating(NOT_PERMITTED | NO_SUCH_SERVICE):
            os.fchown(fd, -1, gid)
    if mode_from is not None:
        # The owner's read bit stays in any case: outputs are read back.
        with tolerating(NOT_PERMITTED | NO_SUCH_SERVICE):
            os.fchmod(fd, stat.S_IMODE(mode_from.st_mode) & 0o666 | stat.S_IRUSR)


def _give_name(dir_fd: int, temp: bytes, name: bytes, digest: str, own: tuple[str, ...]) -> None:
    try:
        publish(dir_fd, temp, name)
    except FileExistsError as error:
        try:
            there = _digest_of(dir_fd, name)
        except PermissionError:
            there = None  # what cannot be read cannot be shown to be ours
        if there == digest:
            return
        if there is None or there not in own:
            raise NameTaken(repr(name)) from error
        os.rename(temp, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)


def _digest_of(dir_fd: int, name: bytes, *, from_disk: bool = False) -> str | None:
    fd = open_regular(dir_fd, name)
    if fd is None:
        return None
    with open(fd, "rb", buffering=0) as file:
        if from_disk and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_regular(dir_fd: int, name: bytes) -> int | None:
    """Open a file for reading if it is a regular one; never blocks on a pipe, never follows a link."""
    try:
        # Looking first keeps an open() from waking a device.
        if not stat.S_ISREG(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            return None
        fd = os.open(name, _READ_FLAGS, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NOTHING_TO_READ:
            return None
        raise
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def sync(fd: int) -> None:
    """Bring a file or folder to disk; some file systems cannot sync folders and say EINVAL (fsync(2))."""
    with tolerating(NO_SUCH_SERVICE):
        os.fsync(fd)


@contextlib.contextmanager
def tolerating(numbers: frozenset[int]) -> Iterator[None]:
    """Pass over errors with these numbers."""
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise
