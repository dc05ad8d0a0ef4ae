"""Writing into folders that belong to people."""

from __future__ import annotations

import os
from typing import Protocol

from tnfd.model import StatKey


class Outputs(Protocol):
    """Blocking calls on an open directory handle; they belong into a thread.

    All raise ``Fault`` (``output.*``).
    """

    def write(
        self,
        dir_fd: int,
        name: bytes,
        data: bytes,
        *,
        job: str,
        mode_from: os.stat_result | None,
        own: tuple[str, ...],
    ) -> str:
        """Write a whole file atomically, verify it, return its sha256.

        Raises:
            NameTaken: there is a file with another content than those in ``own``.
        """
        ...

    def digest(self, dir_fd: int, name: bytes, *, from_disk: bool = False) -> str | None:
        """The sha256 of a file; None if there is none. ``from_disk``: not of what is cached of it."""
        ...

    def write_status(
        self,
        dir_fd: int,
        name: bytes,
        data: bytes,
        *,
        job: str,
        source_name: bytes,
        mode_from: os.stat_result | None,
    ) -> str:
        """Write a status file, over one of this job or of a source with this name alone.

        Raises:
            NameTaken: the name belongs to anything else.
        """
        ...

    def remove_status(self, dir_fd: int, name: bytes, *, job: str, source_name: bytes) -> bool:
        """Remove a status file that ``write_status`` would replace; False if there is none."""
        ...

    def sweep(self, dir_fd: int, job: str) -> int:
        """Remove the temporary files that a killed process left for this job."""
        ...

    def taken(self, dir_fd: int) -> frozenset[str]:
        """The folded names in the folder; may lag a little."""
        ...

    def name_limit(self, dir_fd: int) -> int:
        """How many bytes a name may have."""
        ...

    def read(self, dir_fd: int, name: bytes, *, max_bytes: int) -> bytes | None:
        """A file's content; None if there is none, or if it is larger."""
        ...

    def look(self, dir_fd: int, name: bytes) -> os.stat_result | None:
        """A regular file's stat; None if there is none."""
        ...

    def rename(self, from_fd: int, name: bytes, to_fd: int, to_name: bytes) -> bool:
        """Rename into another folder, durably; False: it is on another file system.

        Raises:
            NameTaken: something has the name.
            SourceVanished: there is nothing to rename.
        """
        ...

    def copy(
        self, from_fd: int, name: bytes, to_fd: int, *, job: str, sha256: str | None
    ) -> tuple[bytes, int]:
        """Copy into a temporary file of the other folder, durably and compared; return its name and inode.

        Raises:
            SourceChanged: it is not what ``sha256`` says; SourceVanished: it left.
        """
        ...

    def remove(self, dir_fd: int, name: bytes, *, job: str, key: StatKey) -> None:
        """Delete a recording that is still the one that ``key`` describes; harmless where it is gone.

        Raises:
            SourceChanged: it is another file, which stays.
        """
        ...

    def remove_own(self, dir_fd: int, name: bytes, *, own: tuple[str, ...]) -> bool:
        """Delete a file whose content is one of ``own``; False if it is another or gone."""
        ...
