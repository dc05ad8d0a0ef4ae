"""Hashing a finished file, and proving that it was the same file before and after."""

from __future__ import annotations

import hashlib
import os

from tnfd.errors import Fault, SourceChanged
from tnfd.intake.lease import probe_lease
from tnfd.model import StatKey
from tnfd.root import Root, fault_of_open
from tnfd.rules.settle import Lease
from tnfd.threads import FileThread

SLICE_BYTES = 4 * 1024 * 1024  # 6 ms at 0.7 CPU s a GiB; looks at other files run in between


class _Hasher:
    """One file being read; lives in the inbox's thread."""

    def __init__(self, root: Root, rel: bytes, expected: StatKey, *, leases: bool) -> None:
        self._root = root
        self._rel = rel
        self._expected = expected
        self._leases = leases
        self._fd = -1
        self._sha256 = hashlib.sha256()
        self._buffer = bytearray()

    def read_slice(self) -> str | None:
        """Read on; the hash in hexadecimal once the end is reached and everything is as it was."""
        try:
            if self._fd < 0:
                self._open()
            count = os.readv(self._fd, [self._buffer])
            while 0 < count < len(self._buffer) and (
                more := os.readv(self._fd, [memoryview(self._buffer)[count:]])
            ):
                count += more
            self._sha256.update(memoryview(self._buffer)[:count])
            if count == len(self._buffer):
                return None
            return self._finish()
        except OSError as error:
            raise fault_of_open(error) from error
        except Fault as fault:
            if isinstance(fault.__cause__, BlockingIOError):
                raise SourceChanged("another program holds a lease on it") from fault
            raise

    def close(self) -> None:
        """Close the file; harmless twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _open(self) -> None:
        self._fd, st = self._root.open_source(self._rel)
        if StatKey.of(st) != self._expected:
            raise SourceChanged("between settling and hashing")
        # Reading, not mapping: a mapped file that somebody truncates ends the process by SIGBUS.
        self._buffer = bytearray(min(SLICE_BYTES, self._expected.size_bytes + 1))

    def _finish(self) -> str:
        if StatKey.of(os.fstat(self._fd)) != self._expected:
            raise SourceChanged("while it was hashed")
        if self._leases and probe_lease(self._fd) is Lease.BUSY:
            raise SourceChanged("a writer opened it while it was hashed")
        return self._sha256.hexdigest()


async def identify(
    thread: FileThread, root: Root, rel: bytes, expected: StatKey, *, leases: bool = False
) -> str:
    """Return the file's sha256 (lower-case hex), read in slices between which the thread serves others.

    ``leases``: also ask at the end whether a writer has it open.

    Raises:
        SourceChanged: its stat is not ``expected`` before or after reading.
        SourceVanished: it is gone.
        Fault: ``source.unreadable``, ``source.not_regular`` or ``source.io``.

    Cancellation lets go of the file after the slice at hand.
    """
    hasher = _Hasher(root, rel, expected, leases=leases)
    try:
        while (sha256 := await thread.run(hasher.read_slice)) is None:
            pass
        return sha256
    finally:
        thread.post(hasher.close)
