"""What intake tells the rest of the house about files; answered by the store and the queue together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tnfd.errors import Fault
from tnfd.model import FileRef, JobSettings, StatKey

NAMELESS = "batch"  # stands where an inbox's name would, for files that no inbox has a part in


def inbox_scope(root: bytes) -> str:
    """The scope of an inbox's jobs: its absolute path, with bytes that are not UTF-8 spelt out."""
    return f"inbox:{root.decode('utf-8', 'backslashreplace')}"


Layers = tuple[tuple[bytes, bytes], ...]  # folders below an inbox, with their settings files' content


class Subtrees(Protocol):
    """What holds in the folders of an inbox."""

    def resolve(self, layers: Layers) -> JobSettings:
        """Lay settings files over the inbox's settings, the outermost first.

        Raises:
            ConfigError: with every problem that there is.
        """
        ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a file was found: the scope that works on it, the inbox's name, what is asked for."""

    scope: str
    inbox: str
    settings: JobSettings


@dataclass(frozen=True, slots=True)
class Found:
    """A finished file and its hash; ``ref.stat`` is the stat that held before and after hashing.

    ``follows``: the job of this very file, which was renamed or moved here.
    """

    ref: FileRef
    sha256: str
    seen_at: datetime
    settled_at: datetime
    flags: tuple[str, ...] = ()
    follows: str = ""


class Claims(Protocol):
    """Turns files into jobs. Every call is durable when it returns."""

    async def known(self, root: bytes, after: bytes, limit: int) -> list[tuple[bytes, StatKey]]:
        """What was claimed, refused or skipped below ``root``: relative path and stat then.

        The next ``limit`` of them, in the order of their paths, beyond the path ``after``.
        """
        ...

    async def unsettled(self, root: bytes) -> dict[bytes, StatKey]:
        """What was announced by ``settling`` and has not ended since: relative path -> stat then."""
        ...

    async def claim(self, origin: Origin, found: Sequence[Found]) -> None:
        """Make jobs for finished files, a group in one commit; a file claimed before is left as it is."""
        ...

    async def refuse(self, origin: Origin, ref: FileRef, seen_at: datetime, fault: Fault) -> None:
        """Record a file that failed before it could be hashed (empty, a pipe, not readable)."""
        ...

    async def settling(self, origin: Origin, ref: FileRef, seen_at: datetime) -> None:
        """Show a file that has been growing for a while; called again it brings the new stat."""
        ...

    async def gone(self, origin: Origin, rels: Sequence[bytes]) -> None:
        """Files that were announced by ``settling`` and left before they were finished."""
        ...

    async def first_start(self, root: bytes) -> bool:
        """Whether no first scan below ``root`` was ever finished."""
        ...

    async def skip(self, origin: Origin, refs: Sequence[FileRef]) -> None:
        """End the first scan: remember these files as seen without making jobs (``existing = "skip"``)."""
        ...
