"""The gate on a real ledger: who may send, who has to wait and why, and what is booked however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from structlog.testing import capture_logs

from tests.stores import AnyStore, Sqlite, Stores
from tnfd.errors import Fault, LeaseLost, StoreUnusable
from tnfd.model import ChunkResult, WaitReason
from tnfd.pipeline.gate import Gate, MustWait
from tnfd.ports.engine import Capabilities, EngineChunk, Hints
from tnfd.ports.ledger import Ask, Closed, Granted, Ledger, Refused
from tnfd.rules.throttle import Stated
from tnfd.store.ledger import Budget

CAN = Capabilities("opus", 25_000_000, 1400.0, False, max_concurrency=2, usd_per_minute=0.6)


class Server:
    """An engine that the test plays itself."""

    def __init__(self, name: str = "lan", capabilities: Capabilities = CAN) -> None:
        self.name, self.type, self.model = name, "openai", "m"
        self.capabilities = capabilities

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return

    async def warm(self) -> None:
        return

    async def transcribe(self, chunk: EngineChunk, hints: Hints) -> ChunkResult:
        raise AssertionError


class Bench:
    """A gate, its ledger and its log."""

    def __init__(self, stores: Stores, store: AnyStore) -> None:
        self.stores, self.store = stores, store
        self.gate = Gate(store, stores.clock)
        self.server = Server()
        self.logs: list[MutableMapping[str, Any]] = []

    def events(self) -> list[str]:
        return [entry["event"] for entry in self.logs if entry["event"] != "control"]

    def request(self, audio_s: float = 60.0, server: Server | None = None) -> Any:
        return self.gate.request(server or self.server, job="job", inbox="in", audio_s=audio_s)

    async def send(
        self,
        error: Exception | None = None,
        *,
        audio_s: float = 60.0,
        usd: float | None = None,
        meanwhile: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """One request; it ends with ``error``, after whatever happens ``meanwhile``."""
        async with self.request(audio_s) as ticket:
            ticket.cost_usd = usd
            if meanwhile is not None:
                await meanwhile()
            if error is not None:
                raise error

    async def expect(self, server: Server | None = None) -> None:
        await self.gate.expect(server or self.server, job="job", inbox="in")

    async def must_wait(self, audio_s: float = 60.0) -> MustWait:
        with pytest.raises(MustWait) as caught:
            await self.send(audio_s=audio_s)
        return caught.value

    async def spent(self) -> float:
        return (await self.store.spent()).today_usd

    async def in_flight(self) -> int:
        return sum(engine.in_flight for engine in await self.store.engines())

    async def pause(self) -> None:
        with pytest.raises(Fault):
            await self.send(Fault("engine.bad_key"))


MakeBench = Callable[..., Any]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[MakeBench]:
    stores = Stores(Sqlite(), tmp_path)

    async def build(**budget: float) -> Bench:
        bench = Bench(stores, await stores.open(budget=Budget(**budget)))
        bench.logs = logs
        return bench

    with capture_logs() as logs:
        yield build
    await stores.close_all()


@pytest.fixture
async def bench(make: MakeBench) -> Bench:
    bench: Bench = await make()
    return bench


# -- slots -----------------------------------------------------------------------------------------------


async def test_no_more_requests_than_the_engine_takes(bench: Bench) -> None:
    go, full = asyncio.Event(), asyncio.Event()
    under_way = most = 0

    async def one() -> None:
        nonlocal under_way, most
        async with bench.request():
            under_way += 1
            most = max(most, under_way)
            if under_way == CAN.max_concurrency:
                full.set()
            await go.wait()
            under_way -= 1

    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(one())
        await full.wait()
        assert await bench.in_flight() == 2
        go.set()
    assert most == 2
    assert await bench.in_flight() == 0
    assert await bench.spent() == pytest.approx(6 * 0.6)


async def test_slot_of_another_process_is_waited_for(bench: Bench) -> None:
    other = await bench.stores.open("batch-1")
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(
                Gate(other, bench.stores.clock).request(bench.server, job="x", inbox="in", audio_s=1.0)
            )
        waiting = asyncio.create_task(bench.send())
        await bench.stores.clock.until_sleeping()
        assert not waiting.done()
    while not waiting.done():
        await bench.stores.clock.advance(0.2)
        await asyncio.wait({waiting}, timeout=0.01)
    await waiting


async def test_engines_do_not_share_slots(bench: Bench) -> None:
    async with bench.request(), bench.request(), bench.request(server=Server("other")):
        assert await bench.in_flight() == 3


# -- money -----------------------------------------------------------------------------------------------


async def test_estimate_is_the_audio_s_price_and_the_cost_what_was_said(bench: Bench) -> None:
    async with bench.request(90.0) as ticket:
        assert ticket.estimate_usd == pytest.approx(0.9)
        assert await bench.spent() == pytest.approx(0.9)
        ticket.cost_usd = 0.25
    assert await bench.spent() == pytest.approx(0.25)
    await bench.send()  # nothing was said: the estimate
    assert await bench.spent() == pytest.approx(0.85)


async def test_reached_budget_means_waiting_for_tomorrow(make: MakeBench) -> None:
    bench: Bench = await make(daily_usd=1.0)
    await bench.send()
    waiting = (await bench.must_wait()).waiting
    assert waiting.reason is WaitReason.BUDGET
    assert waiting.until is not None
    assert bench.stores.now < waiting.until <= bench.stores.now + timedelta(days=1)
    assert "$0.60 of $1.00" in waiting.detail
    await bench.must_wait()
    assert bench.events() == ["budget.reached"]  # said once
    assert bench.logs[0]["until"] == waiting.until
    await bench.send(audio_s=30.0)  # what still fits
    assert await bench.in_flight() == 0


@pytest.mark.parametrize(
    ("fault", "usd", "booked"),
    [
        (Fault("engine.timeout", maybe_paid=True), None, 0.6),
        (Fault("engine.unreachable"), None, 0.0),
        (Fault("engine.rejected"), None, 0.0),
        # The answer was there, its price known, and storing it failed.
        (Fault("output.disk_full"), 0.25, 0.25),
    ],
)
async def test_failed_request_costs_what_it_may_have_cost(
    bench: Bench, fault: Fault, usd: float | None, booked: float
) -> None:
    with pytest.raises(Fault) as caught:
        await bench.send(fault, usd=usd)
    assert caught.value is fault
    assert await bench.spent() == pytest.approx(booked)
    assert await bench.in_flight() == 0


@pytest.mark.parametrize(("usd", "booked"), [(None, 0.6), (0.25, 0.25)])
@pytest.mark.parametrize("error", [LeaseLost("job"), ZeroDivisionError("a bug")], ids=repr)
async def test_bug_in_the_middle_counts_as_paid(
    bench: Bench, error: Exception, usd: float | None, booked: float
) -> None:
    with pytest.raises(type(error)):
        await bench.send(error, usd=usd)
    assert await bench.spent() == pytest.approx(booked)
    assert await bench.in_flight() == 0


# -- cancellation ----------------------------------------------------------------------------------------


async def test_cancelled_request_counts_as_spent_and_says_nothing_of_the_engine(bench: Bench) -> None:
    sent = asyncio.Event()

    async def one() -> None:
        async with bench.request():
            sent.set()
            await asyncio.Event().wait()

    for _ in range(4):  # more than the breaker would stand
        task = asyncio.create_task(one())
        await sent.wait()
        sent.clear()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
    assert await bench.spent() == pytest.approx(4 * 0.6)
    assert await bench.in_flight() == 0
    assert (await bench.store.engines())[0].state == "ok"


class Slow:
    """A ledger whose answers take until ``go``; they are written down by then. Else as the real one."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def reserve(self, ask: Ask) -> Granted | Refused:
        answer = await self.ledger.reserve(ask)
        self.asked.set()
        await self.go.wait()
        return answer

    async def close(
        self, reservation: int, *, cost_usd: float, fault: Fault | None, stated: Stated | None = None
    ) -> Closed:
        return await self.ledger.close(reservation, cost_usd=cost_usd, fault=fault, stated=stated)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ledger, name)


async def test_permission_that_arrives_after_a_cancellation_is_given_back_unpaid(bench: Bench) -> None:
    ledger: Any = Slow(bench.store)
    bench.gate = Gate(ledger, bench.stores.clock)
    task = asyncio.create_task(bench.send())
    await ledger.asked.wait()
    assert await bench.in_flight() == 1
    task.cancel()
    await asyncio.sleep(0)
    ledger.go.set()
    await asyncio.wait({task})
    assert task.cancelled()
    assert await bench.in_flight() == 0
    assert await bench.spent() == 0


async def test_waiting_for_a_slot_can_be_cancelled(bench: Bench) -> None:
    async with bench.request(), bench.request():
        task = asyncio.create_task(bench.send())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    await bench.send()
    assert await bench.in_flight() == 0


# -- pauses ----------------------------------------------------------------------------------------------


async def test_bad_key_pauses_and_the_next_must_wait(bench: Bench) -> None:
    await bench.pause()
    waiting = (await bench.must_wait()).waiting
    assert (waiting.reason, waiting.detail) == (WaitReason.ENGINE_PAUSED, "engine.bad_key")
    assert waiting.until == bench.stores.now + timedelta(seconds=300)
    await bench.must_wait()
    assert bench.events() == ["engine.paused"]
    said = bench.logs[0]
    assert (said["engine"], said["code"], said["until"]) == ("lan", "engine.bad_key", waiting.until)
    async with bench.request(server=Server("other")):
        pass


async def test_probe_that_succeeds_resumes(bench: Bench) -> None:
    await bench.pause()
    await bench.stores.clock.advance(300)
    async with bench.request():
        assert (await bench.must_wait()).waiting.reason is WaitReason.ENGINE_PAUSED  # one at a time
    await bench.send()
    assert bench.events() == ["engine.paused", "engine.resumed"]


async def test_probe_that_fails_says_so_no_second_time(bench: Bench) -> None:
    await bench.pause()
    for _ in range(3):
        await bench.stores.clock.advance(1800)
        await bench.pause()
    assert bench.events() == ["engine.paused"]
    assert bench.server.name == "lan"
    assert (await bench.store.engines())[0].state == "paused"


async def test_third_stumble_opens_the_breaker_and_is_not_counted(bench: Bench) -> None:
    for code in ("engine.timeout", "engine.server_error"):
        with pytest.raises(Fault, match=code):
            await bench.send(Fault(code, "seen"))
    with pytest.raises(Fault) as third:
        await bench.send(Fault("engine.unreachable", "refused"))
    assert third.value.code == "engine.down"
    assert "refused" in third.value.message
    assert (await bench.must_wait()).waiting.detail == "engine.down"


async def test_request_in_flight_when_the_engine_paused_is_not_counted_either(bench: Bench) -> None:
    with pytest.raises(Fault) as caught:
        await bench.send(Fault("engine.timeout"), meanwhile=bench.pause)
    assert caught.value.code == "engine.down"
    assert bench.events() == ["engine.paused"]


async def test_request_that_may_have_been_paid_counts_although_the_engine_is_down(bench: Bench) -> None:
    # A file that always times out would else be paid again at each probe, without end.
    await bench.pause()
    await bench.stores.clock.advance(300)
    with pytest.raises(Fault) as caught:
        await bench.send(Fault("engine.timeout", maybe_paid=True))
    assert caught.value.code == "engine.timeout"
    assert (await bench.store.engines())[0].state == "paused"


async def test_file_s_own_refusal_is_told_as_it_is(bench: Bench) -> None:
    for _ in range(5):
        with pytest.raises(Fault, match=r"engine\.rejected"):
            await bench.send(Fault("engine.rejected"))
    assert bench.events() == []


# -- patience --------------------------------------------------------------------------------------------


async def test_short_patience_is_waited_with_the_worker_in_hand(bench: Bench) -> None:
    with pytest.raises(Fault):
        await bench.send(Fault("engine.rate_limited", retry_after_s=4.0))
    assert bench.events() == ["engine.throttled"]
    task = asyncio.create_task(bench.send())
    await bench.stores.clock.until_sleeping()
    await bench.stores.clock.advance(3.9)
    assert not task.done()
    await bench.stores.clock.advance(0.2)
    await asyncio.wait_for(task, 20)


async def test_long_patience_gives_the_worker_up(bench: Bench) -> None:
    with pytest.raises(Fault):
        await bench.send(Fault("engine.rate_limited", retry_after_s=60.0))
    waiting = (await bench.must_wait()).waiting
    assert (waiting.reason, waiting.until) == (
        WaitReason.RATE_LIMIT, bench.stores.now + timedelta(seconds=60)
    )  # fmt: skip


# -- asking beforehand -----------------------------------------------------------------------------------


async def test_what_will_have_to_wait_is_known_before_it_is_prepared(make: MakeBench) -> None:
    bench: Bench = await make(daily_usd=0.6)
    await bench.expect()
    await bench.send()
    with pytest.raises(MustWait) as caught:
        await bench.expect()
    assert caught.value.waiting.reason is WaitReason.BUDGET
    assert await bench.in_flight() == 0
    await bench.expect(Server("free", replace(CAN, usd_per_minute=0.0)))


async def test_full_slots_and_short_patience_are_no_reason_to_wait_with_preparing(bench: Bench) -> None:
    async with bench.request(), bench.request():
        await bench.expect()
    with pytest.raises(Fault):
        await bench.send(Fault("engine.rate_limited", retry_after_s=4.0))
    await bench.expect()
    await bench.stores.clock.advance(5)
    with pytest.raises(Fault):
        await bench.send(Fault("engine.rate_limited", retry_after_s=60.0))
    with pytest.raises(MustWait):
        await bench.expect()


async def test_probe_is_expected_to_pass_when_it_is_due(bench: Bench) -> None:
    await bench.pause()
    with pytest.raises(MustWait):
        await bench.expect()
    await bench.stores.clock.advance(300)
    await bench.expect()
    await bench.expect()  # asking takes nothing away
    await bench.send()


# -- a ledger that cannot write ----------------------------------------------------------------------------


class Full(Slow):
    """A ledger on a disk that is full for a while."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self.go.set()
        self.error: Exception | None = None

    async def reserve(self, ask: Ask) -> Granted | Refused:
        if self.error is not None:
            raise self.error
        return await super().reserve(ask)

    async def close(
        self, reservation: int, *, cost_usd: float, fault: Fault | None, stated: Stated | None = None
    ) -> Closed:
        if self.error is not None:
            raise self.error
        return await super().close(reservation, cost_usd=cost_usd, fault=fault, stated=stated)


async def test_end_that_cannot_be_booked_is_booked_later(bench: Bench) -> None:
    ledger: Any = Full(bench.store)
    bench.gate = Gate(ledger, bench.stores.clock)
    for _ in range(2):  # all slots
        async with bench.request() as ticket:
            ticket.cost_usd = 0.1
            ledger.error = Fault("output.disk_full")
        assert bench.events()[-1] == "gate.not_booked"
        with pytest.raises(Fault, match="disk_full"):
            await bench.send()
        ledger.error = None
    await bench.send(usd=0.5)
    assert await bench.in_flight() == 0
    assert await bench.spent() == pytest.approx(0.7)


async def test_request_s_own_fault_is_told_although_its_end_cannot_be_booked(bench: Bench) -> None:
    ledger: Any = Full(bench.store)
    bench.gate = Gate(ledger, bench.stores.clock)

    async def fill() -> None:
        ledger.error = Fault("output.disk_full")

    with pytest.raises(Fault, match=r"engine\.rejected"):
        await bench.send(Fault("engine.rejected"), meanwhile=fill)
    ledger.error = StoreUnusable("corrupt")
    with pytest.raises(StoreUnusable):
        await bench.send()
