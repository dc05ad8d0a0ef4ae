"""The one place that asks the operating system for the time or sleeps.

Wall time is for people and for the database; everything that measures a span uses ``monotonic``.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """The real clock (see ``ports.Clock``)."""

    def now(self) -> datetime:
        """The wall time, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Sleep for ``delay_s`` seconds."""
        import asyncio  # short commands only ask for the time

        await asyncio.sleep(delay_s)
