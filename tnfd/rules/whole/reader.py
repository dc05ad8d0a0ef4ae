"""What provers read from, and what they find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

MOST_PARTS = 200_000  # boxes or elements of one container; beyond it nothing is proven


class Reader(Protocol):
    """A file's bytes. ``has_holes``: parts of it were never written, as far as the file system tells."""

    @property
    def size_bytes(self) -> int:
        """The file's length."""
        ...

    @property
    def has_holes(self) -> bool:
        """Whether some of it is unwritten."""
        ...

    def read(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes from ``offset``; fewer only at the end of the file."""
        ...


@dataclass(frozen=True, slots=True)
class Payload:
    """Where the last of the audio or video lies: bytes [start, end)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Bytes:
    """A reader over bytes in memory."""

    data: bytes
    has_holes: bool = False

    @property
    def size_bytes(self) -> int:
        """The length."""
        return len(self.data)

    def read(self, offset: int, count: int) -> bytes:
        """Return a slice."""
        return self.data[offset : offset + count]
