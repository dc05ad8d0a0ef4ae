"""Asks an open file whether its container is whole. Blocking; runs in the inbox's thread."""

from __future__ import annotations

import os

from tnfd.rules.whole import Proof, prove_whole

_AHEAD_BYTES = 64 * 1024  # headers stand close to one another: most walks need two or three reads


class FdReader:
    """A ``rules.whole.Reader`` over a descriptor, which stays its owner's."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self._fd = fd
        self._size_bytes = size_bytes
        self._start = 0
        self._ahead = b""

    @property
    def size_bytes(self) -> int:
        """The file's length when it was looked at."""
        return self._size_bytes

    @property
    def has_holes(self) -> bool:
        """Whether some of it is unwritten; False where the file system does not tell (it says "the end")."""
        try:
            return os.lseek(self._fd, 0, os.SEEK_HOLE) < self._size_bytes
        except OSError:
            return False

    def read(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes."""
        at = offset - self._start
        if at >= 0 and at + count <= len(self._ahead):
            return self._ahead[at : at + count]
        if count >= 1024:
            return _pread(self._fd, count, offset)
        self._start, self._ahead = offset, _pread(self._fd, 4096 if offset else _AHEAD_BYTES, offset)
        return self._ahead[:count]


def _pread(fd: int, count: int, offset: int) -> bytes:
    parts = []
    while count > 0 and (part := os.pread(fd, count, offset)):
        parts.append(part)
        count, offset = count - len(part), offset + len(part)
    return b"".join(parts)


def prove(fd: int, size_bytes: int) -> Proof | None:
    """Return the proof that the file of this length is whole, or None.

    Raises:
        OSError: it cannot be read.
    """
    return prove_whole(FdReader(fd, size_bytes))
