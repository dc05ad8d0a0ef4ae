"""Asking the kernel whether any process of this machine has a file open for writing.

A read lease can be had only while there is no writer (fcntl(2), F_SETLEASE); it is given back at once.
Nothing here ever keeps one: a writer that opens a leased file waits, and SIGIO would end the holder.
"""

from __future__ import annotations

import errno
import fcntl
import signal

from tnfd.rules.settle import Lease

_SETLEASE: int | None = getattr(fcntl, "F_SETLEASE", None)  # Linux only


def ignore_sigio() -> None:
    """Keep a broken lease from ending the process. Call once at start, in the main thread."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def probe_lease(fd: int) -> Lease:
    """Say whether a writer has the file open that ``fd`` (read-only) is open on; 13 to 22 us on ext4.

    Every answer but EAGAIN means "don't know": EACCES for another user's file without CAP_LEASE, EINVAL
    where the file system has none. Without ``ignore_sigio`` nothing is tried.
    """
    if _SETLEASE is None or signal.getsignal(signal.SIGIO) == signal.SIG_DFL:
        return Lease.UNKNOWN
    try:
        fcntl.fcntl(fd, _SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return Lease.BUSY if error.errno == errno.EAGAIN else Lease.UNKNOWN
    try:
        fcntl.fcntl(fd, _SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return Lease.UNKNOWN  # it ends with the descriptor
    return Lease.FREE
