"""What counts as work on a job, and what as waiting."""

from __future__ import annotations

import pytest

from tnfd.pipeline.stopwatch import Stopwatch
from tnfd.ports.progress import Stage
from tnfd.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def watch(clock: FakeClock) -> Stopwatch:
    return Stopwatch(clock)


async def test_waiting_for_a_slot_is_no_work(clock: FakeClock, watch: Stopwatch) -> None:
    watch.reached("a", Stage.PREPARING)
    await clock.advance(1)
    watch.reached("a", Stage.WAITING)
    await clock.advance(10)
    watch.reached("a", Stage.TRANSCRIBING)
    await clock.advance(3)
    watch.spent("a", 0.1)
    watch.reached("a", Stage.WRITING)
    await clock.advance(0.5)
    assert watch.end("a") == pytest.approx((4.5, 10))
    assert watch.end("a") == (0, 0)  # it is not kept


async def test_pieces_sent_side_by_side_are_counted_once(clock: FakeClock, watch: Stopwatch) -> None:
    watch.reached("a", Stage.TRANSCRIBING)
    await clock.advance(1)
    watch.reached("a", Stage.TRANSCRIBING)
    watch.reached("a", Stage.WAITING)  # the next piece has no slot, but two are on the way
    await clock.advance(2)
    watch.spent("a", 0)
    await clock.advance(4)
    watch.spent("a", 0)
    await clock.advance(8)
    assert watch.end("a") == pytest.approx((7, 8))


async def test_time_between_attempts_is_no_work_and_attempts_add_up(
    clock: FakeClock, watch: Stopwatch
) -> None:
    for _ in range(2):
        watch.reached("a", Stage.PREPARING)
        await clock.advance(2)
        watch.rest("a")
        await clock.advance(60)
    assert watch.end("a") == pytest.approx((4, 120))


async def test_jobs_do_not_mix(clock: FakeClock, watch: Stopwatch) -> None:
    watch.reached("a", Stage.WRITING)
    await clock.advance(1)
    watch.reached("b", Stage.WRITING)
    await clock.advance(1)
    assert watch.end("b") == pytest.approx((1, 0))
    assert watch.end("a") == pytest.approx((2, 0))
