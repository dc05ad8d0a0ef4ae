"""Local days and months, through changes of the clock and the ends of months."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.rules.days import day_of, next_day, next_month

BERLIN, CAIRO = ZoneInfo("Europe/Berlin"), ZoneInfo("Africa/Cairo")
ZONES = [BERLIN, CAIRO, ZoneInfo("America/Havana"), ZoneInfo("Pacific/Kiritimati"), ZoneInfo("UTC")]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "zone", "day"),
    [
        ("2026-11-23T22:59:59", BERLIN, "2026-11-23"),
        ("2026-11-23T23:00:00", BERLIN, "2026-11-24"),
        ("2026-06-30T21:59:59", BERLIN, "2026-06-30"),
        ("2026-06-30T22:00:00", BERLIN, "2026-07-01"),
        ("2026-01-01T04:59:59", ZoneInfo("America/New_York"), "2025-12-31"),
        ("2026-12-31T10:00:00", ZoneInfo("Pacific/Kiritimati"), "2027-01-01"),
    ],
)
def test_day_is_the_local_one(now: str, zone: ZoneInfo, day: str) -> None:
    assert day_of(at(now), zone) == day


@pytest.mark.parametrize(
    ("now", "zone", "begins"),
    [
        ("2026-11-23T12:00:00", BERLIN, "2026-11-23T23:00:00"),
        # 23 and 25 hours long.
        ("2026-03-28T23:00:00", BERLIN, "2026-03-29T22:00:00"),
        ("2026-10-24T22:00:00", BERLIN, "2026-10-25T23:00:00"),
        # In Cairo summer time begins at midnight: that day has no 00:00 and begins at 01:00 (tzdata 2023c).
        ("2026-04-23T12:00:00", CAIRO, "2026-04-23T22:00:00"),
        ("2026-12-31T12:00:00", BERLIN, "2026-12-31T23:00:00"),
        ("2028-02-28T12:00:00", BERLIN, "2028-02-28T23:00:00"),
    ],
)
def test_next_day_begins_at_local_midnight(now: str, zone: ZoneInfo, begins: str) -> None:
    assert next_day(at(now), zone) == at(begins)


@pytest.mark.parametrize(
    ("now", "begins"),
    [
        ("2026-01-31T12:00:00", "2026-01-31T23:00:00"),  # the 31st: February has none
        ("2026-03-01T00:00:00", "2026-03-31T22:00:00"),
        ("2026-10-31T23:30:00", "2026-11-30T23:00:00"),  # November has begun there
        ("2026-12-05T00:00:00", "2026-12-31T23:00:00"),
        ("2028-02-29T12:00:00", "2028-02-29T23:00:00"),
    ],
)
def test_next_month_begins_on_its_first(now: str, begins: str) -> None:
    assert next_month(at(now), BERLIN) == at(begins)


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2037, 12, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sampled_from(ZONES),
)
def test_next_is_the_first_moment_of_another_day(now: datetime, zone: ZoneInfo) -> None:
    for begins, what in ((next_day(now, zone), slice(0, 10)), (next_month(now, zone), slice(0, 7))):
        assert now < begins.astimezone(UTC)
        assert day_of(begins, zone)[what] != day_of(now, zone)[what]
        just_before = begins.astimezone(UTC) - timedelta(seconds=1)
        assert day_of(just_before, zone)[what] == day_of(now, zone)[what]


@pytest.fixture(params=["Europe/Berlin", "Africa/Cairo", "America/Havana", "UTC"])
def machine_s_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield ZoneInfo(request.param)
    time.tzset()


def test_without_a_zone_the_machine_s_counts(machine_s_zone: ZoneInfo) -> None:
    now = at("2026-01-01T00:30:00")
    while now.year == 2026:
        assert day_of(now) == day_of(now, machine_s_zone)
        assert next_day(now) == next_day(now, machine_s_zone)
        assert next_month(now) == next_month(now, machine_s_zone)
        now += timedelta(hours=13)
