"""What need not be looked at again: 64 bits for each file as it was when the house learnt of it.

Owns nothing durable; the store does. A set of hashes takes about 60 bytes a file where paths and stat keys
would take 500; that two of a million files are mistaken for one another has a chance of about 1 in 10
million.
"""

from __future__ import annotations

from collections.abc import Iterable

from tnfd.model import StatKey


class Known:
    """Paths with the stat key under which they were claimed, refused or skipped."""

    def __init__(self) -> None:
        self._marks: set[int] = set()

    def __len__(self) -> int:
        return len(self._marks)

    def has(self, rel: bytes, stat: StatKey) -> bool:
        """Whether the house knows this path in exactly this state."""
        return _mark(rel, stat) in self._marks

    def has_mark(self, mark: int) -> bool:
        """Whether the house knows what this mark stands for."""
        return mark in self._marks

    def add_all(self, entries: Iterable[tuple[bytes, StatKey]]) -> None:
        """Remember many paths."""
        self._marks.update(_mark(rel, stat) for rel, stat in entries)

    def add(self, rel: bytes, stat: StatKey) -> None:
        """Remember a path."""
        self._marks.add(_mark(rel, stat))

    def forget_old(self, current: set[int], slack: int = 10_000) -> None:
        """Drop what a whole scan did not meet (``current`` as made by ``mark``), once that is most of it."""
        if len(self._marks) > 2 * len(current) + slack:
            self._marks &= current

    @staticmethod
    def mark(rel: bytes, stat: StatKey) -> int:
        """Return what stands for a path in one state."""
        return _mark(rel, stat)


def _mark(rel: bytes, stat: StatKey) -> int:
    # Without the device: its number changes at a reboot (LVM, btrfs, NFS) and would make every file new.
    return hash((rel, stat.ino, stat.size_bytes, stat.mtime_ns, stat.ctime_ns))
