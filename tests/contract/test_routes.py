"""Engines in order of preference: whose turn it is, as pauses begin and end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.stores import BACKENDS, AnyStore, Backend, Stores, ask, begin, claim, granted, ready, the_job
from tnfd.errors import Fault
from tnfd.model import ChunkResult, Cut, EngineChoice, JobSettings, Waiting, WaitReason
from tnfd.ports.claims import Origin
from tnfd.ports.queue import Released, Wait

FIRST, SECOND = EngineChoice("lan", "openai", "m"), EngineChoice("spare", "openai", "m")
LISTED = Origin("inbox:/in", "in", JobSettings((FIRST, SECOND)))


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    backend: Backend = request.param
    stores = Stores(backend, tmp_path)
    yield stores
    await stores.close_all()


@pytest.fixture
async def store(stores: Stores) -> AnyStore:
    return await stores.open()


async def end(store: AnyStore, engine: str, code: str | None = None) -> None:
    one = await granted(store, ask(engine))
    await store.close(one.reservation, cost_usd=0, fault=None if code is None else Fault(code))


async def turn(store: AnyStore, job: str) -> str:
    return (await the_job(store, job)).turn


async def pay(store: AnyStore, job: str, engine: EngineChoice) -> None:
    """Begin, pay one of two cuts with this engine, and hand back."""
    lease = await begin(store, job)
    await store.restart_cuts(lease, "opus")
    for number in range(2):
        await store.save_cut(lease, Cut(number, number * 16_000, (number + 1) * 16_000, f"{number}.ogg", 9))
    await store.finish_cuts(lease, samples=32_000, bad_packets=0)
    await store.save_chunk(lease, 0, engine, ChunkResult("x"), uploaded_bytes=9, cost_usd=0.1, audio_s=1.0)
    await store.finish(lease, Released())


async def test_next_engine_takes_over_while_the_first_is_paused(stores: Stores, store: AnyStore) -> None:
    before = await claim(stores, store, "a.mp3", "a", LISTED)
    assert await turn(store, before) == "lan"
    await end(store, "lan", "engine.no_quota")
    after = await claim(stores, store, "b.mp3", "b", LISTED)
    for job in (before, after):
        assert await turn(store, job) == "spare"
        assert (await the_job(store, job)).waiting is None
    assert await ready(store) == [before, after]
    await pay(store, before, SECOND)
    paid = await the_job(store, before)
    assert paid.engine == SECOND
    assert paid.engine_why == "lan is paused: engine.no_quota"


async def test_first_is_used_again_once_it_is_back(stores: Stores, store: AnyStore) -> None:
    await end(store, "lan", "engine.no_quota")
    job = await claim(stores, store, where=LISTED)
    await stores.clock.advance(301)
    assert await turn(store, job) == "spare"
    lease = await begin(store, job)  # whoever begins now finds out
    assert lease.job.turn == "lan"
    other = await claim(stores, store, "b.mp3", "b", LISTED)
    assert (await begin(store, other)).job.turn == "spare"  # one at a time
    third = await claim(stores, store, "c.mp3", "c", LISTED)
    await end(store, "lan")
    assert await turn(store, third) == "lan"


async def test_failed_probe_goes_on_with_the_next_engine_at_once(stores: Stores, store: AnyStore) -> None:
    await end(store, "lan", "engine.no_quota")
    job = await claim(stores, store, where=LISTED)
    await stores.clock.advance(301)
    lease = await begin(store, job)
    await end(store, "lan", "engine.no_quota")
    await store.finish(lease, Wait(Waiting(WaitReason.ENGINE_PAUSED, None, "engine.no_quota")))
    assert await turn(store, job) == "spare"
    assert await ready(store) == [job]


async def test_paid_work_stays_with_the_engine_that_was_paid(stores: Stores, store: AnyStore) -> None:
    job = await claim(stores, store, where=LISTED)
    await pay(store, job, FIRST)
    await end(store, "lan", "engine.no_quota")
    assert await turn(store, job) == "lan"
    assert await ready(store) == []
    waiting = (await the_job(store, job)).waiting
    assert waiting is not None
    assert waiting.reason is WaitReason.ENGINE_PAUSED
    assert (await the_job(store, job)).engine_why == ""


async def test_with_all_paused_the_one_that_is_probed_first_is_waited_for(
    stores: Stores, store: AnyStore
) -> None:
    job = await claim(stores, store, where=LISTED)
    await end(store, "lan", "engine.no_quota")  # probed in 5 minutes
    await end(store, "spare", "engine.down")  # in 15 s
    assert await turn(store, job) == "spare"
    assert await ready(store) == []
    await stores.clock.advance(16)
    assert await ready(store) == [job]
    await begin(store, job)
    await end(store, "spare")
    assert await turn(store, job) == "spare"
