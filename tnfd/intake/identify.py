"""Hashing a finished file, and proving that it was the same file before and after."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from tnfd.errors import Fault, SourceChanged
from tnfd.intake.lease import probe_lease
from tnfd.model import StatKey
from tnfd.root import Root, fault_of_open
from tnfd.rules.settle import Lease
from tnfd.rules.whole import BLANK_BYTES, has_blank
from tnfd.threads import FileThread

SLICE_BYTES = 4 * 1024 * 1024  # 6 ms at 0.7 CPU s a GiB; looks at other files run in between


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file holds, as long as its stat is this one.

    ``blank``: there are stretches of zeros in it as an unfinished download leaves them, or a recorder's
    silence; a container that claims to be whole is not believed then.
    """

    stat: StatKey
    sha256: str  # lower-case hex
    blank: bool


class _Hasher:
    """One file being read; lives in the inbox's thread."""

    def __init__(self, root: Root, rel: bytes, expected: StatKey, *, leases: bool, blank_bytes: int) -> None:
        self._root = root
        self._rel = rel
        self._expected = expected
        self._leases = leases
        self._blank_bytes = blank_bytes
        self._blank = False
        self._fd = -1
        self._sha256 = hashlib.sha256()
        self._buffer = bytearray()

    def read_slice(self) -> Digest | None:
        """Read on; the digest once the end is reached and everything is as it was."""
        try:
            if self._fd < 0:
                self._open()
            count = os.readv(self._fd, [self._buffer])
            while 0 < count < len(self._buffer) and (
                more := os.readv(self._fd, [memoryview(self._buffer)[count:]])
            ):
                count += more
            read = memoryview(self._buffer)[:count]
            self._sha256.update(read)
            self._blank = self._blank or has_blank(read, self._blank_bytes)
            if count == len(self._buffer):
                self._check()  # no need to read all of what has changed already
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

    def _check(self) -> None:
        if StatKey.of(os.fstat(self._fd)) != self._expected:
            raise SourceChanged("while it was hashed")

    def _finish(self) -> Digest:
        self._check()
        if self._leases and probe_lease(self._fd) is Lease.BUSY:
            raise SourceChanged("a writer opened it while it was hashed")
        return Digest(self._expected, self._sha256.hexdigest(), self._blank)


async def identify(
    thread: FileThread,
    root: Root,
    rel: bytes,
    expected: StatKey,
    *,
    leases: bool = False,
    blank_bytes: int = BLANK_BYTES,
) -> Digest:
    """Hash a file, read in slices between which the thread serves others.

    ``leases``: also ask at the end whether a writer has it open. ``blank_bytes``: the stretch of zeros that
    speaks against a proof.

    Raises:
        SourceChanged: its stat is not ``expected`` before or after reading.
        SourceVanished: it is gone.
        Fault: ``source.unreadable``, ``source.not_regular`` or ``source.io``.

    Cancellation lets go of the file after the slice at hand.
    """
    hasher = _Hasher(root, rel, expected, leases=leases, blank_bytes=blank_bytes)
    try:
        while (digest := await thread.run(hasher.read_slice)) is None:
            pass
        return digest
    finally:
        thread.post(hasher.close)
