"""What every ledger owes the gate: slots, patience, pauses and probes, and money that never runs over."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.stores import (
    BACKENDS,
    AnyStore,
    Backend,
    Stores,
    ask,
    begin,
    claim,
    granted,
    origin,
    ready,
    refused,
    the_job,
    transcribe,
)
from tnfd.errors import Fate, Fault
from tnfd.model import EngineChoice, Waiting, WaitReason
from tnfd.ports.ledger import Closed, EngineStatus, Granted, Refusal, Spent
from tnfd.ports.queue import Retry, Wait
from tnfd.rules.throttle import WINDOW_S, Stated
from tnfd.store.ledger import Budget

DOWN, KEY, STUMBLE = Fault("engine.down"), Fault("engine.bad_key"), Fault("engine.timeout")
SLOW = Fault("engine.rate_limited", retry_after_s=20)
FREE = Budget()


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Budgets count local days: the test's are those of UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    backend: Backend = request.param
    stores = Stores(backend, tmp_path)
    yield stores
    await stores.close_all()


@pytest.fixture
async def store(stores: Stores) -> AnyStore:
    return await stores.open()


async def send(store: AnyStore, fault: Fault | None = None, usd: float = 0.0, engine: str = "lan") -> Closed:
    """One request from permission to end."""
    granted_ = await granted(store, ask(engine, usd))
    return await store.close(granted_.reservation, cost_usd=usd, fault=fault)


async def status(store: AnyStore, engine: str = "lan") -> EngineStatus:
    return next(one for one in await store.engines() if one.name == engine)


async def pause(store: AnyStore, fault: Fault = KEY) -> None:
    assert (await send(store, fault)).paused


# -- slots and patience ----------------------------------------------------------------------------------


async def test_slots_are_shared_by_all_processes(stores: Stores, store: AnyStore) -> None:
    other = await stores.open("batch-1")
    first = await granted(store, ask(most=2))
    await granted(other, ask(most=2))
    assert (await refused(store, ask(most=2))).why is Refusal.FULL
    assert isinstance(await store.reserve(ask("another", most=2)), Granted)
    assert (await status(other)).in_flight == 2
    await store.close(first.reservation, cost_usd=0, fault=None)
    await granted(other, ask(most=2))


async def test_ending_a_request_twice_is_harmless(store: AnyStore) -> None:
    one = await granted(store, ask(usd=1))
    await store.close(one.reservation, cost_usd=1, fault=None)
    assert await store.close(one.reservation, cost_usd=1, fault=KEY) == Closed()
    assert await store.spent() == Spent(1, 1)


async def test_server_that_asks_for_patience_gets_it(stores: Stores, store: AnyStore) -> None:
    closed = await send(store, SLOW)
    assert closed == Closed(throttled_until=stores.now + timedelta(seconds=20))
    # A later answer that asks for less does not shorten it.
    refusal = await refused(store, ask())
    assert (refusal.why, refusal.until) == (Refusal.BLOCKED, closed.throttled_until)
    assert (await status(store)).state == "throttled"
    await stores.clock.advance(20)
    await granted(store, ask())
    assert (await status(store)).state == "ok"


async def test_shorter_patience_does_not_shorten_a_longer_one(stores: Stores, store: AnyStore) -> None:
    first, second = await granted(store, ask()), await granted(store, ask())
    await store.close(first.reservation, cost_usd=0, fault=SLOW)
    closed = await store.close(
        second.reservation, cost_usd=0, fault=Fault("engine.rate_limited", retry_after_s=1)
    )
    assert closed.throttled_until == stores.now + timedelta(seconds=1)
    assert (await refused(store, ask())).until == stores.now + timedelta(seconds=20)


async def test_throttling_without_a_time_lasts_longer_each_time(stores: Stores, store: AnyStore) -> None:
    for most_s in (2, 4, 8, 16, 32, 60, 60):
        closed = await send(store, Fault("engine.rate_limited"))
        assert closed.throttled_until is not None
        assert 1 <= (closed.throttled_until - stores.now).total_seconds() <= most_s
        assert (await refused(store, ask())).until == closed.throttled_until
        await stores.clock.advance(60)
    await send(store)  # an answer ends the row
    closed = await send(store, Fault("engine.rate_limited"))
    assert closed.throttled_until is not None
    assert 1 <= (closed.throttled_until - stores.now).total_seconds() <= 2


@pytest.mark.parametrize("back_s", [3600, 86_400 * 365])
async def test_clock_set_back_prolongs_neither_patience_nor_pause(
    stores: Stores, store: AnyStore, back_s: int
) -> None:
    await send(store, SLOW)
    await send(store, KEY, engine="other")
    stores.clock.jump_wall(-back_s)
    assert (await status(store)).state == "ok"
    await granted(store, ask())
    assert (await granted(store, ask("other"))).probe
    await send(store, SLOW, engine="third")
    assert (await refused(store, ask("third"))).until == stores.now + timedelta(seconds=20)


async def test_patience_after_the_clock_was_set_back_is_the_new_one(stores: Stores, store: AnyStore) -> None:
    first, second = await granted(store, ask()), await granted(store, ask())
    await store.close(first.reservation, cost_usd=0, fault=SLOW)
    stores.clock.jump_wall(-3600)
    await store.close(second.reservation, cost_usd=0, fault=SLOW)
    assert (await refused(store, ask())).until == stores.now + timedelta(seconds=20)


# -- the rate --------------------------------------------------------------------------------------------


def stated(stores: Stores, full_s: float, *, refused: bool = False, burst: float = 60.0) -> Stated:
    return Stated(stores.now.timestamp(), 1.0, burst, full_s, refused)


async def learn(store: AnyStore, what: Stated, fault: Fault | None = None) -> None:
    one = await granted(store, ask())
    await store.close(one.reservation, cost_usd=0, fault=fault, stated=what)


async def test_rate_that_a_server_states_is_kept_by_all_processes(stores: Stores, store: AnyStore) -> None:
    other = await stores.open("batch-1")
    await learn(store, stated(stores, 58.0))  # two tokens left
    await stores.clock.advance(0.01)
    assert (await status(store)).requests_per_minute == 60
    for each in (store, other):
        await granted(each, ask())
    refusal = await refused(other, ask())
    assert refusal.why is Refusal.PACED
    assert refusal.until is not None
    assert (refusal.until - stores.now).total_seconds() == pytest.approx(1.0, abs=0.02)
    await stores.clock.advance((refusal.until - stores.now).total_seconds() + 1e-6)
    await granted(store, ask())
    assert (await refused(store, ask())).why is Refusal.PACED
    assert isinstance(await store.reserve(ask("another")), Granted)


async def test_rate_is_remembered_over_a_restart(stores: Stores) -> None:
    first = await stores.open("daemon-1")
    await learn(first, stated(stores, 59.5))
    await stores.close(first)
    store = await stores.open("daemon-2")
    assert (await refused(store, ask())).why is Refusal.PACED


async def test_refusal_s_headers_say_when_the_next_may_go(stores: Stores, store: AnyStore) -> None:
    await learn(store, stated(stores, 59.5, refused=True), Fault("engine.rate_limited", overloaded=True))
    refusal = await refused(store, ask())
    assert refusal.until is not None
    assert (refusal.until - stores.now).total_seconds() == pytest.approx(0.5, abs=0.01)
    assert (await status(store)).level is None  # the rate was the trouble, not how many at once


async def test_server_without_a_limit_any_more_is_not_held_to_its_former_one(
    stores: Stores, store: AnyStore
) -> None:
    await learn(store, stated(stores, 59.0))
    await stores.clock.advance(1)
    await learn(store, Stated(stores.now.timestamp()), Fault("engine.rejected"))  # a proxy, perhaps
    assert (await status(store)).requests_per_minute == 60
    await stores.clock.advance(1)
    await learn(store, Stated(stores.now.timestamp()))
    assert (await status(store)).requests_per_minute is None


async def test_refusal_counts_once_though_it_stays_the_newest_answer(stores: Stores, store: AnyStore) -> None:
    refusal = stated(stores, 59.5, refused=True)
    await learn(store, refusal, Fault("engine.rate_limited", retry_after_s=0.1))
    await stores.clock.advance(3)
    several = [await granted(store, ask(most=99)) for _ in range(3)]
    assert (await refused(store, ask(most=99))).why is Refusal.PACED
    await store.close(several[-1].reservation, cost_usd=0, fault=STUMBLE, stated=refusal)
    assert (await refused(store, ask(most=99))).why is Refusal.PACED


async def test_rate_written_down_is_kept_without_any_header(stores: Stores, store: AnyStore) -> None:
    slow = replace(ask(), requests_per_minute=30.0)
    await granted(store, slow)
    refusal = await refused(store, slow)
    assert refusal.until is not None
    assert 2.0 <= (refusal.until - stores.now).total_seconds() < 2.1
    await stores.clock.advance(2.1)
    await granted(store, slow)


async def test_unknown_server_is_felt_for_until_its_first_answer(stores: Stores, store: AnyStore) -> None:
    careful = replace(ask(), careful=True)
    first, _ = await granted(store, careful), await granted(store, careful)
    assert (await refused(store, careful)).why is Refusal.PACED
    # No limit in the answer: nothing holds back any more.
    await store.close(first.reservation, cost_usd=0, fault=None, stated=Stated(stores.now.timestamp()))
    for _ in range(3):
        await granted(store, careful)


async def test_too_much_at_once_halves_the_requests_at_once_for_a_while(
    stores: Stores, store: AnyStore
) -> None:
    busy = Fault("engine.rate_limited", retry_after_s=0.01, overloaded=True)
    several = [await granted(store, ask(most=8)) for _ in range(8)]
    for one in several:  # all sent before the first complaint: it counts once
        await store.close(one.reservation, cost_usd=0, fault=busy)
    assert (await status(store)).level == 4
    await stores.clock.advance(1)
    for _ in range(4):
        await granted(store, ask(most=8))
    assert (await refused(store, ask(most=8))).why is Refusal.FULL
    await stores.clock.advance(WINDOW_S)
    await granted(store, ask(most=8))
    assert (await refused(store, ask(most=8))).why is Refusal.FULL


async def test_level_comes_back_to_what_was_asked_for(stores: Stores, store: AnyStore) -> None:
    await send(store, Fault("engine.rate_limited", retry_after_s=1, overloaded=True))
    assert (await status(store)).level == 2
    await stores.clock.advance(10 * WINDOW_S)
    await send(store)
    assert (await status(store)).level is None


async def test_server_that_says_at_once_is_given_more_time_each_time(stores: Stores, store: AnyStore) -> None:
    waits = []
    for _ in range(5):
        closed = await send(store, Fault("engine.rate_limited", retry_after_s=0.0))
        assert closed.throttled_until is not None
        waits.append((closed.throttled_until - stores.now).total_seconds())
        await stores.clock.advance(waits[-1] + 0.001)
    assert waits == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8])


# -- a file, or the engine? ------------------------------------------------------------------------------


async def fails(store: AnyStore, job: str, fault: Fault | None = STUMBLE, usd: float = 0.0) -> Closed:
    one = await granted(store, replace(ask(usd=usd), job=job))
    return await store.close(one.reservation, cost_usd=0, fault=fault)


async def test_file_that_fails_while_others_pass_fails_alone(store: AnyStore) -> None:
    for closed in (Closed(), Closed(), Closed(chokes=True)):
        assert await fails(store, "poison") == closed
        assert await fails(store, "other", None) == Closed()
    assert await fails(store, "poison") == Closed()  # tried again by hand: counted anew


async def test_several_poisonous_files_among_good_ones_do_not_pause_it(store: AnyStore) -> None:
    for number in range(3):
        for job in ("p1", "p2"):
            assert (await fails(store, job)) == Closed(chokes=number == 2)
        await fails(store, f"good-{number}", None)
    assert (await status(store)).state == "ok"


async def test_failures_in_a_row_of_several_files_pause_it(store: AnyStore) -> None:
    await fails(store, "a")
    await fails(store, "a")
    assert (await fails(store, "b")).code == "engine.down"


async def test_own_success_clears_a_file(store: AnyStore) -> None:
    for _ in range(2):
        await fails(store, "a")
        await fails(store, "b", None)
    await fails(store, "a", None)
    assert await fails(store, "a") == Closed()


async def test_failures_in_an_outage_are_no_strikes(stores: Stores, store: AnyStore) -> None:
    await fails(store, "a")
    await fails(store, "b", None)
    assert await fails(store, "a") == Closed()  # the second strike; then the server goes
    assert await fails(store, "a") == Closed()
    assert (await fails(store, "a")).code == "engine.down"
    await stores.clock.advance(15)
    assert (await fails(store, "a")).down
    await stores.clock.advance(15)
    assert (await fails(store, "a", None)).resumed


async def test_lone_file_that_others_follow_does_not_pause_it(stores: Stores, store: AnyStore) -> None:
    job = await claim(stores, store)
    await claim(stores, store, "b.mp3", "b")
    await begin(store, job)
    for _ in range(4):
        assert await fails(store, job) == Closed()
    # The other is tried, and fails as well.
    assert (await fails(store, "other")).paused


async def test_files_are_forgiven_what_was_the_engine_s_fault(stores: Stores, store: AnyStore) -> None:
    jobs = [await claim(stores, store, f"{n}.mp3", str(n)) for n in range(2)]
    for job in (jobs[0], jobs[1]):
        lease = await begin(store, job)
        assert await fails(store, job) == Closed()
        await store.finish(lease, Retry(1.0, "engine.timeout", "", ""))
        assert (await the_job(store, job)).failures == 1
        await stores.clock.advance(2)
    lease = await begin(store, jobs[0])
    assert (await fails(store, jobs[0])).paused
    assert [(await the_job(store, job)).failures for job in jobs] == [0, 0]


async def test_what_may_have_been_paid_is_not_forgiven(stores: Stores, store: AnyStore) -> None:
    lost = Fault("engine.timeout", maybe_paid=True)
    job = await claim(stores, store)
    for _ in range(2):
        lease = await begin(store, job)
        await fails(store, job, lost, usd=0.1)
        await store.finish(lease, Retry(1.0, "engine.timeout", "", ""))
        await stores.clock.advance(2)
    assert (await fails(store, job, lost, usd=0.1)).paused
    assert (await the_job(store, job)).failures == 2


# -- pauses and probes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "wait_s"), [("engine.bad_key", 300), ("engine.no_quota", 300), ("engine.down", 15)]
)
async def test_engine_s_fault_pauses_it(stores: Stores, store: AnyStore, code: str, wait_s: int) -> None:
    until = stores.now + timedelta(seconds=wait_s)
    closed = await send(store, Fault(code, "seen"))
    assert closed == Closed(paused=True, code=code, down=True, probe_at=until)
    refusal = await refused(store, ask())
    assert (refusal.why, refusal.until, refusal.detail) == (Refusal.PAUSED, until, code)
    one = await status(store)
    assert (one.state, one.code, one.until) == ("paused", code, until)
    assert "seen" in one.detail
    assert isinstance(await store.reserve(ask("another")), Granted)


async def test_one_request_probes_and_success_resumes(stores: Stores, store: AnyStore) -> None:
    await pause(store)
    await stores.clock.advance(300)
    probe = await granted(store, ask())
    assert probe.probe
    assert (await refused(store, ask())).why is Refusal.PAUSED  # one at a time
    assert await store.close(probe.reservation, cost_usd=0, fault=None) == Closed(resumed=True)
    assert not (await granted(store, ask())).probe


async def test_failed_probe_keeps_it_paused_for_longer(stores: Stores, store: AnyStore) -> None:
    await pause(store)
    for wait_s in (600, 1200, 1800, 1800):
        await stores.clock.advance(1800)
        closed = await send(store, KEY)
        assert closed == Closed(
            code="engine.bad_key", down=True, probe_at=stores.now + timedelta(seconds=wait_s)
        )
        assert (await refused(store, ask())).until == closed.probe_at


async def test_server_s_own_time_delays_the_probe(stores: Stores, store: AnyStore) -> None:
    closed = await send(store, Fault("engine.down", retry_after_s=120))
    assert closed.probe_at == stores.now + timedelta(seconds=120)


async def test_requests_in_flight_do_not_pause_it_twice(stores: Stores, store: AnyStore) -> None:
    first, second, third = [await granted(store, ask()) for _ in range(3)]
    at = (await store.close(first.reservation, cost_usd=0, fault=DOWN)).probe_at
    await stores.clock.advance(10)
    assert await store.close(second.reservation, cost_usd=0, fault=DOWN) == Closed(down=True)
    assert (await status(store)).until == at
    # One that succeeds although it began before says that it is well.
    assert (await store.close(third.reservation, cost_usd=0, fault=None)).resumed


@pytest.mark.parametrize("fate", [Fate.SOURCE, Fate.WAIT, Fate.ADJUST, Fate.THROTTLE])
async def test_probe_that_says_nothing_is_repeated_at_once(
    stores: Stores, store: AnyStore, fate: Fate
) -> None:
    code = {
        Fate.SOURCE: "source.changed",
        Fate.WAIT: "output.disk_full",
        Fate.ADJUST: "engine.adjusted",
        Fate.THROTTLE: "engine.rate_limited",
    }[fate]
    await pause(store)
    await stores.clock.advance(300)
    assert not (await send(store, Fault(code))).resumed
    await stores.clock.advance(10)
    assert (await granted(store, ask())).probe


async def test_refused_file_proves_that_the_engine_works(stores: Stores, store: AnyStore) -> None:
    await pause(store)
    await stores.clock.advance(300)
    assert (await send(store, Fault("engine.rejected"))).resumed


async def test_third_stumble_in_a_row_pauses(store: AnyStore) -> None:
    assert await send(store, STUMBLE) == Closed()
    assert await send(store, STUMBLE) == Closed()
    closed = await send(store, STUMBLE)
    assert (closed.paused, closed.code, closed.down) == (True, "engine.down", True)


@pytest.mark.parametrize("between", [None, Fault("engine.rejected")], ids=["success", "refusal"])
async def test_answer_ends_the_row_of_stumbles(store: AnyStore, between: Fault | None) -> None:
    for fault in (STUMBLE, STUMBLE, between, STUMBLE, STUMBLE):
        assert not (await send(store, fault)).paused
    assert (await send(store, STUMBLE)).paused


async def test_stumbles_of_one_engine_are_not_another_s(store: AnyStore) -> None:
    for engine in ("lan", "other", "lan", "other"):
        assert not (await send(store, STUMBLE, engine=engine)).paused


async def test_stumbling_probe_keeps_it_paused(stores: Stores, store: AnyStore) -> None:
    await pause(store, DOWN)
    await stores.clock.advance(15)
    closed = await send(store, STUMBLE)
    assert (closed.paused, closed.down) == (False, True)
    assert closed.probe_at == stores.now + timedelta(seconds=15)


async def test_resuming_probes_at_once_and_clears_patience(stores: Stores, store: AnyStore) -> None:
    assert await store.resume() == []
    await pause(store)
    assert await store.resume("other") == []
    assert await store.resume("lan") == ["lan"]
    assert (await granted(store, ask())).probe
    assert await store.resume() == ["lan"]


async def test_pause_shows_on_waiting_jobs_and_leaves_with_it(stores: Stores, store: AnyStore) -> None:
    before, copy = await claim(stores, store, "a.mp3", "a"), await claim(stores, store, "b.mp3", "b")
    done = await claim(stores, store, "c.mp3", "c")
    await transcribe(store, lease := await begin(store, done))
    await store.finish(lease, Wait(Waiting(WaitReason.DISK, stores.now, "full")))
    other = await claim(stores, store, "d.mp3", "d", where=origin(engine=EngineChoice("x", "openai", "m")))
    await pause(store)
    after = await claim(stores, store, "e.mp3", "e")
    until = stores.now + timedelta(seconds=300)
    for job in (before, copy):
        assert (await the_job(store, job)).waiting == Waiting(
            WaitReason.ENGINE_PAUSED, until - timedelta(seconds=0.01), "engine.bad_key"
        )
    waiting = (await the_job(store, after)).waiting
    assert waiting is not None
    assert waiting.reason is WaitReason.ENGINE_PAUSED
    assert (await the_job(store, other)).waiting is None
    # What is paid already needs no engine, only its outputs.
    assert await ready(store) == [done, other]
    await stores.clock.advance(300)
    assert (await send(store)).resumed
    assert await ready(store) == [before, copy, done, other, after]
    assert await store.waiting() == {"disk": 1}


async def test_retry_by_hand_does_not_hide_that_the_engine_is_paused(stores: Stores, store: AnyStore) -> None:
    job = await claim(stores, store)
    await pause(store)
    assert await store.retry([job]) == [job]
    assert await store.waiting() == {"engine_paused": 1}
    assert await ready(store) == []


async def test_one_job_is_let_through_as_the_probe(stores: Stores, store: AnyStore) -> None:
    jobs = [await claim(stores, store, f"{number}.mp3", str(number)) for number in range(4)]
    await pause(store)
    assert await ready(store) == []
    assert await store.next_due([origin().scope]) == pytest.approx(300)
    await stores.clock.advance(300)
    assert await ready(store) == [jobs[0]]
    assert await ready(store, without=[jobs[0]]) == []  # somebody is about to begin it
    lease = await begin(store, jobs[0])
    assert await ready(store, without=[jobs[0]]) == []  # begun, and on its way to the gate
    probe = await granted(store, ask())
    await stores.clock.advance(120)
    assert await ready(store) == []  # in flight, however long it takes
    await store.close(probe.reservation, cost_usd=0, fault=KEY)
    await store.finish(lease, Wait(Waiting(WaitReason.ENGINE_PAUSED, None, "engine.bad_key")))
    assert await ready(store) == []
    await stores.clock.advance(600)
    assert await ready(store) == [jobs[0]]


async def test_probe_is_another_file_than_the_one_that_failed(stores: Stores, store: AnyStore) -> None:
    poison = await claim(stores, store, "a.mp3", "a")
    for _ in range(3):
        granted_ = await granted(store, replace(ask(), job=poison))
        closed = await store.close(granted_.reservation, cost_usd=0, fault=STUMBLE)
    assert closed.paused
    good = await claim(stores, store, "b.mp3", "b")
    await stores.clock.advance(15)
    assert await ready(store) == [good]


async def test_probe_that_does_not_arrive_is_followed_by_another(stores: Stores, store: AnyStore) -> None:
    first, second = await claim(stores, store, "a.mp3", "a"), await claim(stores, store, "b.mp3", "b")
    await pause(store)
    await stores.clock.advance(300)
    await begin(store, first)  # hours of video to decode, or a share that hangs
    await stores.clock.advance(61)
    assert await ready(store, without=[first]) == [second]


async def test_due_probe_does_not_starve_other_engines(stores: Stores, store: AnyStore) -> None:
    paused = [await claim(stores, store, f"{number}.mp3", str(number)) for number in range(20)]
    other = await claim(stores, store, "x.mp3", "x", where=origin(engine=EngineChoice("x", "openai", "m")))
    await pause(store)
    await stores.clock.advance(300)
    assert await ready(store, limit=5) == [paused[0], other]


async def test_job_told_to_wait_for_a_well_engine_does_not_spin(stores: Stores, store: AnyStore) -> None:
    job = await claim(stores, store)
    await store.finish(await begin(store, job), Wait(Waiting(WaitReason.ENGINE_PAUSED, None, "x")))
    assert await ready(store) == []
    await stores.clock.advance(2)
    assert await ready(store) == [job]


# -- money -----------------------------------------------------------------------------------------------


async def test_money_in_flight_counts(stores: Stores) -> None:
    store = await stores.open(budget=Budget(daily_usd=1))
    first = await granted(store, ask(usd=0.6))
    refusal = await refused(store, ask(usd=0.6))
    assert (refusal.why, refusal.until) == (Refusal.BUDGET, stores.now + timedelta(days=1))
    assert await store.spent() == Spent(0.6, 0.6)
    await store.close(first.reservation, cost_usd=0.1, fault=None)
    assert await store.spent() == Spent(0.1, 0.1)
    await granted(store, ask(usd=0.6))
    await granted(store, ask(usd=0))  # what costs nothing is never refused


async def test_budget_can_be_spent_to_the_cent(stores: Stores) -> None:
    store = await stores.open(budget=Budget(daily_usd=0.3))
    for _ in range(3):
        await send(store, usd=0.1)
    assert (await refused(store, ask(usd=0.01))).why is Refusal.BUDGET


async def test_day_and_month_begin_anew(stores: Stores) -> None:
    store = await stores.open(budget=Budget(daily_usd=1, monthly_usd=2))
    await send(store, usd=1)
    await refused(store, ask(usd=0.5))
    await stores.clock.advance(86_400)
    await send(store, usd=1)
    assert await store.spent() == Spent(1, 2)
    refusal = await refused(store, ask(usd=0.5))
    assert refusal.until is not None
    assert (refusal.until.month, refusal.until.day, refusal.until.utcoffset()) == (2, 1, timedelta(0))
    stores.clock.jump_wall((refusal.until - stores.now).total_seconds())
    assert await store.spent() == Spent(0, 0)
    await granted(store, ask(usd=0.5))


async def test_request_counts_on_the_day_that_it_was_sent(stores: Stores) -> None:
    store = await stores.open()
    one = await granted(store, ask(usd=1))
    await stores.clock.advance(86_400)
    await store.close(one.reservation, cost_usd=1, fault=None)
    assert await store.spent() == Spent(0, 1)


@pytest.mark.parametrize("cost", [math.nan, math.inf, -5.0])
async def test_cost_that_is_no_money_counts_as_the_estimate(store: AnyStore, cost: float) -> None:
    one = await granted(store, ask(usd=0.25))
    await store.close(one.reservation, cost_usd=cost, fault=None)
    assert await store.spent() == Spent(0.25, 0.25)
    assert (await status(store)).in_flight == 0


async def test_resuming_lets_what_waited_for_money_ask_again(stores: Stores, store: AnyStore) -> None:
    job = await claim(stores, store)
    until = stores.now + timedelta(days=1)
    await store.finish(await begin(store, job), Wait(Waiting(WaitReason.BUDGET, until, "spent")))
    assert await ready(store) == []
    await store.resume()
    assert await ready(store) == [job]


async def test_dead_process_s_requests_count_as_spent_and_free_their_slots(stores: Stores) -> None:
    store, dead = await stores.open("daemon-1"), await stores.open("batch-1")
    late = await granted(dead, ask(usd=0.5, most=1))
    await stores.kill(dead)
    assert (await refused(store, ask(most=1))).why is Refusal.FULL
    await store.bury_dead()
    assert await store.spent() == Spent(0.5, 0.5)
    assert (await status(store)).in_flight == 0
    # Should its end be told after all, it was booked already.
    assert await store.close(late.reservation, cost_usd=0.5, fault=None) == Closed()
    assert await store.spent() == Spent(0.5, 0.5)


async def test_dead_process_s_probe_is_repeated(stores: Stores) -> None:
    store, dead = await stores.open("daemon-1"), await stores.open("batch-1")
    job = await claim(stores, store)
    await pause(store)
    await stores.clock.advance(300)
    await granted(dead, ask())
    assert await ready(store) == []
    await stores.kill(dead)
    await store.bury_dead()
    assert await ready(store) == [job]
    assert (await granted(store, ask())).probe


async def test_clean_end_books_what_is_open(stores: Stores) -> None:
    first = await stores.open("daemon-1")
    await granted(first, ask(usd=0.5))
    await stores.close(first)
    store = await stores.open("daemon-2")
    assert await store.spent() == Spent(0.5, 0.5)
    assert (await status(store)).in_flight == 0


async def test_processes_that_ask_at_once_never_get_more_than_there_is(stores: Stores) -> None:
    budget = Budget(daily_usd=1)
    several = [await stores.open(f"batch-{number}", budget=budget) for number in range(3)]

    async def asks(store: AnyStore) -> int:
        return sum([isinstance(await store.reserve(ask(usd=0.1, most=100)), Granted) for _ in range(8)])

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asks(store)) for store in several]
    assert sum(task.result() for task in tasks) == 10
    assert (await several[0].spent()).today_usd == pytest.approx(1.0)
