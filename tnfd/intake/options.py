"""What an inbox's configuration asks of intake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tnfd.rules.ignore import NameRules


@dataclass(frozen=True, slots=True)
class IntakeOptions:
    """One inbox's options. Globs are relative to the inbox, as are ``skip_dirs`` (done, failed)."""

    recursive: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    settle_s: float = 5.0
    watch_mode: Literal["auto", "events", "scan"] = "auto"
    existing: Literal["process", "skip"] = "process"
    scan_interval_s: float = 5.0  # at least, where scans are all there is
    check_interval_s: float = 60.0  # at least, where events tell
    skip_dirs: tuple[bytes, ...] = ()

    @property
    def names(self) -> NameRules:
        """Return the part that decides on names."""
        return NameRules(
            self.include, self.exclude, tuple(path.strip(b"/") for path in self.skip_dirs if path)
        )
