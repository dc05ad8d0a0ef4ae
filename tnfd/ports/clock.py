"""Time, so that tests can hold it still."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for people, monotonic time for spans, and sleeping."""

    def now(self) -> datetime:
        """The wall time, UTC-aware; may jump both ways."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never jumps."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return after ``delay_s`` seconds; cancellable."""
        ...
