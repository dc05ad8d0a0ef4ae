"""The outputs port on this machine's file systems."""

from __future__ import annotations

import os

from tnfd.model import StatKey
from tnfd.outputs import relocate, status, write
from tnfd.outputs.taken import TakenNames
from tnfd.ports.clock import Clock


class LocalOutputs:
    """See ``ports.outputs.Outputs``."""

    def __init__(self, clock: Clock) -> None:
        self._taken = TakenNames(clock)

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
        """See the port."""
        return write.write_file(dir_fd, name, data, job=job, mode_from=mode_from, own=own, verify=True)

    def digest(self, dir_fd: int, name: bytes, *, from_disk: bool = False) -> str | None:
        """See the port."""
        return write.hash_file(dir_fd, name, from_disk=from_disk)

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
        """See the port."""
        return status.write_status(dir_fd, name, data, job=job, source_name=source_name, mode_from=mode_from)

    def remove_status(self, dir_fd: int, name: bytes, *, job: str, source_name: bytes) -> bool:
        """See the port."""
        return status.remove_status(dir_fd, name, job=job, source_name=source_name)

    def sweep(self, dir_fd: int, job: str) -> int:
        """See the port."""
        return write.sweep_temps(dir_fd, job)

    def taken(self, dir_fd: int) -> frozenset[str]:
        """See the port."""
        return self._taken.folded(dir_fd)

    def name_limit(self, dir_fd: int) -> int:
        """See the port."""
        return write.name_limit(dir_fd)

    def read(self, dir_fd: int, name: bytes, *, max_bytes: int) -> bytes | None:
        """See the port."""
        return write.read_file(dir_fd, name, max_bytes=max_bytes)

    def look(self, dir_fd: int, name: bytes) -> os.stat_result | None:
        """See the port."""
        return relocate.look(dir_fd, name)

    def rename(self, from_fd: int, name: bytes, to_fd: int, to_name: bytes) -> bool:
        """See the port."""
        return relocate.rename(from_fd, name, to_fd, to_name)

    def copy(
        self, from_fd: int, name: bytes, to_fd: int, *, job: str, sha256: str | None
    ) -> tuple[bytes, int]:
        """See the port."""
        return relocate.copy(from_fd, name, to_fd, job=job, sha256=sha256)

    def remove(self, dir_fd: int, name: bytes, *, job: str, key: StatKey) -> None:
        """See the port."""
        relocate.remove(dir_fd, name, job=job, key=key)

    def remove_own(self, dir_fd: int, name: bytes, *, own: tuple[str, ...]) -> bool:
        """See the port."""
        return write.remove_file(dir_fd, name, own=own)
