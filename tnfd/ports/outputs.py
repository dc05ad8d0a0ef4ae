"""Writing into folders that belong to people."""

from __future__ import annotations

import os
from typing import Protocol


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

    def digest(self, dir_fd: int, name: bytes) -> str | None:
        """The sha256 of a file; None if there is none."""
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
