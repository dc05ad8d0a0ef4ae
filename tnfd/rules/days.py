"""Local calendar days, as budgets count them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo


def day_of(now: datetime, zone: tzinfo | None = None) -> str:
    """The local calendar day, ``2026-11-23``; ``zone`` None: the machine's."""
    return now.astimezone(zone).date().isoformat()


def next_day(now: datetime, zone: tzinfo | None = None) -> datetime:
    """The moment at which the next local day begins, UTC."""
    local = now.astimezone(zone)
    tomorrow = (local + timedelta(days=1)).date()
    return _start(tomorrow.year, tomorrow.month, tomorrow.day, zone)


def next_month(now: datetime, zone: tzinfo | None = None) -> datetime:
    """The moment at which the next local month begins, UTC."""
    local = now.astimezone(zone)
    year, month = (local.year + 1, 1) if local.month == 12 else (local.year, local.month + 1)
    return _start(year, month, 1, zone)


def _start(year: int, month: int, day: int, zone: tzinfo | None) -> datetime:
    # Where summer time begins at midnight (Cairo, Havana) there is no 00:00: timestamp() takes the moment at
    # which the clock jumped, as it should; astimezone() of a naive 00:00 would take 23:00.
    return datetime.fromtimestamp(datetime(year, month, day, tzinfo=zone).timestamp(), UTC)
