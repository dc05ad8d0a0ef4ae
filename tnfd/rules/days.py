"""Local calendar days, as budgets count them."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo


def day_of(now: datetime, zone: tzinfo | None = None) -> str:
    """The local calendar day, ``2026-11-23``; ``zone`` None: the machine's."""
    return now.astimezone(zone).date().isoformat()


def next_day(now: datetime, zone: tzinfo | None = None) -> datetime:
    """The moment at which the next local day begins."""
    local = now.astimezone(zone)
    tomorrow = (local + timedelta(days=1)).date()
    return _start(tomorrow.year, tomorrow.month, tomorrow.day, zone)


def next_month(now: datetime, zone: tzinfo | None = None) -> datetime:
    """The moment at which the next local month begins."""
    local = now.astimezone(zone)
    year, month = (local.year + 1, 1) if local.month == 12 else (local.year, local.month + 1)
    return _start(year, month, 1, zone)


def _start(year: int, month: int, day: int, zone: tzinfo | None) -> datetime:
    start = datetime(year, month, day, tzinfo=zone)
    # Without a zone, astimezone() reads the naive moment as the machine's local time.
    return start if zone is not None else start.astimezone()
