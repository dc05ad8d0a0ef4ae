"""What every store owes intake, the queue, the workers and the command line."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.stores import (
    BACKENDS,
    ENGINE,
    ROOT,
    SCOPE,
    SCOPES,
    TEXT,
    AnyStore,
    Backend,
    Stores,
    ask,
    begin,
    claim,
    found,
    granted,
    known,
    origin,
    ready,
    ref,
    skipped,
    stat,
    the_job,
    transcribe,
)
from tnfd.errors import Fault, LeaseLost
from tnfd.model import (
    ChunkResult,
    Cut,
    Doubt,
    EngineChoice,
    Gap,
    JobState,
    MediaInfo,
    Segment,
    Transcript,
    Usage,
    Waiting,
    WaitReason,
    Word,
)
from tnfd.ports.claims import inbox_scope
from tnfd.ports.queue import (
    Done,
    Fail,
    LookAgain,
    Outcome,
    Partial,
    Released,
    Retry,
    Vanished,
    Wait,
)

RETRY = Retry(30.0, "engine.timeout", "The server did not answer in time.", "hint")
FAIL = Fail("media.corrupt", "The audio cannot be decoded.", "hint", retryable=False)
GAPS = (Gap(1.0, 2.0, "engine.rejected"),)


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    backend: Backend = request.param
    stores = Stores(backend, tmp_path)
    yield stores
    await stores.close_all()


@pytest.fixture
async def store(stores: Stores) -> AnyStore:
    return await stores.open()


# -- intake ------------------------------------------------------------------------------------------


async def test_claim_makes_a_queued_job_and_remembers_the_file(stores: Stores, store: AnyStore) -> None:
    (one,) = await store.claim(origin(), [found("talk.mp3", "a", stores.now)])
    assert one.new
    job = await the_job(store, one.job)
    assert (job.state, job.scope, job.inbox, job.failures) == (JobState.QUEUED, SCOPE, "in", 0)
    assert job.source == ref()
    assert job.settings == origin().settings
    assert (job.seen_at, job.settled_at) == (stores.now - timedelta(seconds=6), stores.now)
    assert await known(store, ROOT) == {b"talk.mp3": stat()}
    assert await known(store, b"/elsewhere") == {}
    assert [entry.event for entry in await store.history(one.job)] == ["seen", "queued"]


async def test_claiming_the_same_file_again_changes_nothing(stores: Stores, store: AnyStore) -> None:
    job = await claim(stores, store)
    lease = await begin(store, job)
    await transcribe(store, lease)
    await store.finish(lease, Done())
    before = await the_job(store, job)
    (again,) = await store.claim(origin(), [found("talk.mp3", "a", stores.now)])
    assert (again.job, again.new) == (job, False)
    assert await the_job(store, job) == before
    assert await store.counts() == {"done": 1}


async def test_touched_file_keeps_its_job_and_is_known_as_it_is_now(stores: Stores, store: AnyStore) -> None:
    job = await claim(stores, store)
    (again,) = await store.claim(origin(), [found("talk.mp3", "a", stores.now, mtime_ns=99, ino=7)])
    assert (again.job, again.new) == (job, False)
    assert (await the_job(store, job)).source.stat == stat(mtime_ns=99, ino=7)
    assert await known(store, ROOT) == {b"talk.mp3": stat(mtime_ns=99, ino=7)}


async def test_new_content_at_the_same_path_is_a_new_job(stores: Stores, store: AnyStore) -> None:
    first = await claim(stores, store, content="a")
    second = await claim(stores, store, content="b")
    assert first != second
    assert [job.id for job in await store.jobs(path=b"/in/talk.mp3")] == [second, first]
    assert (await the_job(store, first)).transcription != (await the_job(store, second)).transcription


async def test_changed_settings_never_transcribe_a_file_again(stores: Stores, store: AnyStore) -> None:
    job = await claim(stores, store)
    (again,) = await store.claim(origin(prompt="names"), [found("talk.mp3", "a", stores.now)])
    assert (again.job, again.new) == (job, False)


async def test_copies_share_a_transcription_unless_the_text_would_differ(
    stores: Stores, store: AnyStore
) -> None:
    job = await the_job(store, await claim(stores, store, "one.mp3"))
    copy = await the_job(store, await claim(stores, store, "two.mp3"))
    rendered = await the_job(store, await claim(stores, store, "3.mp3", where=origin(formats=("srt",))))
    prompted = await the_job(store, await claim(stores, store, "4.mp3", where=origin(prompt="names")))
    assert job.transcription == copy.transcription == rendered.transcription
    assert prompted.transcription != job.transcription


async def test_group_is_claimed_at_once_and_in_order(stores: Stores, store: AnyStore) -> None:
    group = [found(f"{number:03}.mp3", str(number), stores.now) for number in range(300)]
    claims = await store.claim(origin(), group)
    assert len({one.job for one in claims}) == 300
    assert (await the_job(store, claims[7].job)).source.rel == b"007.mp3"
    assert await store.counts() == {"queued": 300}


@pytest.mark.parametrize(
    "numbers",
    [
        {"ino": 2**64 - 1, "dev": 2**63},  # FUSE and NFS use all bits
        {"mtime_ns": 12 * 10**18, "ctime_ns": 2**63},  # the year 2350
        {"mtime_ns": -(2**70)},  # a damaged file system
        {"mtime_ns": -1},  # before 1970
    ],
    ids=["inode", "future", "absurd", "past"],
)
async def test_stat_comes_back_exactly(stores: Stores, store: AnyStore, numbers: dict[str, Any]) -> None:
    (one,) = await store.claim(origin(), [found("a.mp3", "a", stores.now, **numbers)])
    await store.skip(ROOT, [ref("b.mp3", **numbers)])
    assert (await begin(store, one.job)).job.source.stat == stat(**numbers)
    assert await known(store, ROOT) == {b"a.mp3": stat(**numbers), b"b.mp3": stat(**numbers)}


async def test_names_and_settings_need_not_be_text(stores: Stores, store: AnyStore) -> None:
    name = os.fsdecode(b"\xff\xfe\nmemo.mp3")
    where = origin(prompt="\ud83d", output_dir=os.fsdecode(b"/out/\xff"))
    job = await the_job(store, await claim(stores, store, name, where=where))
    assert job.source.rel == b"\xff\xfe\nmemo.mp3"
    assert job.settings == where.settings
    assert [job.id] == [found.id for found in await store.jobs(path=b"/in/\xff\xfe\nmemo.mp3")]


async def test_inbox_s_path_need_not_be_text(stores: Stores, store: AnyStore) -> None:
    root = b"/in \xff"
    where = origin(inbox_scope(root))
    (one,) = await store.claim(where, [found("a.mp3", "a", stores.now, root=root)])
    assert await ready(store, [where.scope]) == [one.job]
    # A batch that took it gives it back.
    batch = await stores.open("batch-1")
    await store.finish(await begin(store, one.job), Vanished())
    taken = origin("batch:batch-1")
    (again,) = await batch.claim(taken, [found("a.mp3", "a", stores.now, root=root)])
    assert await ready(batch, [taken.scope]) == [again.job] == [one.job]
    await stores.kill(batch)
    await store.bury_dead()
    assert await ready(store, [where.scope]) == [one.job]


async def test_settling_file_is_one_job_until_it_is_claimed(stores: Stores, store: AnyStore) -> None:
    job = await store.settling(origin(), ref(size_bytes=10), stores.now)
    assert await store.settling(origin(), ref(size_bytes=20), stores.now) == job
    assert (await the_job(store, job)).state is JobState.SETTLING
    assert (await the_job(store, job)).source.stat.size_bytes == 20
    assert list(await store.unsettled(ROOT)) == [b"talk.mp3"]
    assert await known(store, ROOT) == {}
    assert await claim(stores, store) == job
    assert (await the_job(store, job)).state is JobState.QUEUED
    assert (await the_job(store, job)).source.stat == stat()
    assert await store.unsettled(ROOT) == {}


async def test_claim_s_configuration_counts_not_that_of_settling(stores: Stores, store: AnyStore) -> None:
    await store.settling(origin(engine=EngineChoice("old", "openai", "m")), ref(), stores.now)
    job = await the_job(store, await claim(stores, store))
    assert job.settings.engines == (ENGINE,)
    # Pauses of the engine that it will use concern it, and no others.
    reservation = await granted(store, ask("old"))
    await store.close(reservation.reservation, cost_usd=0, fault=Fault("engine.bad_key"))
    assert await ready(store) == [job.id]


async def test_known_content_that_settled_slowly_leaves_no_second_job(
    stores: Stores, store: AnyStore
) -> None:
    job = await _done(stores, store)
    await store.settling(origin(), ref(size_bytes=10), stores.now)
    await claim(stores, store)
    assert [found.id for found in await store.jobs()] == [job]
    # The status file on disk may speak of the job that went: the one that stays writes its own again.
    assert [due.id for due, _ in await store.status_due(SCOPES, limit=10)] == [job]


async def test_file_that_left_while_settling_vanishes(stores: Stores, store: AnyStore) -> None:
    job = await store.settling(origin(), ref("a.mp3"), stores.now)
    queued = await claim(stores, store, "b.mp3")
    assert await store.gone(ROOT, [b"a.mp3", b"b.mp3", b"never.mp3"]) == [job]
    assert (await the_job(store, job)).state is JobState.VANISHED
    assert (await the_job(store, queued)).state is JobState.QUEUED


async def test_refused_file_fails_once(stores: Stores, store: AnyStore) -> None:
    first = await store.refuse(origin(), ref(size_bytes=0), stores.now, Fault("media.empty"))
    again = await store.refuse(origin(), ref(size_bytes=0, mtime_ns=9), stores.now, Fault("media.empty"))
    assert first.new
    assert (again.job, again.new) == (first.job, False)
    assert await known(store, ROOT) == {b"talk.mp3": stat(size_bytes=0, mtime_ns=9)}
    job = await the_job(store, first.job)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert (job.error.code, job.error.retryable) == ("media.empty", False)
    other = await store.refuse(origin(), ref(), stores.now, Fault("source.unreadable"))
    assert other.new
    assert other.job != first.job


async def test_skipping_ends_the_first_start(stores: Stores, store: AnyStore) -> None:
    assert await store.first_start(ROOT)
    await store.skip(ROOT, [ref("old.mp3")])
    assert not await store.first_start(ROOT)
    assert await store.first_start(b"/other")
    assert await known(store, ROOT) == {b"old.mp3": stat()}
    assert await store.counts() == {}


async def test_vanished_file_that_comes_back_is_queued_where_it_was_seen(
    stores: Stores, store: AnyStore
) -> None:
    job = await claim(stores, store, "sub/talk.mp3")
    assert await store.finish(await begin(store, job), Vanished()) is not None
    inner = origin("inbox:/in/sub")
    (again,) = await store.claim(inner, [found("talk.mp3", "a", stores.now, root=b"/in/sub")])
    assert (again.job, again.new) == (job, False)
    assert await ready(store) == []
    assert await ready(store, [inner.scope]) == [job]
    assert (await begin(store, job)).job.source == ref(root=b"/in/sub")


async def test_job_of_an_inbox_that_is_no_more_moves_to_the_one_that_finds_its_file(
    stores: Stores, store: AnyStore
) -> None:
    job = await claim(stores, store, "sub/talk.mp3")
    inner = origin("inbox:/in/sub")
    await store.claim(inner, [found("talk.mp3", "a", stores.now, root=b"/in/sub")])
    assert await ready(store, [inner.scope]) == [job]


async def test_inbox_leaves_to_a_batch_what_it_is_about_to_do(stores: Stores, store: AnyStore) -> None:
    batch = await stores.open("batch-1")
    job = await claim(stores, batch, where=origin("batch:batch-1"))
    await claim(stores, store)
    assert await ready(store) == []
    assert await ready(batch, ["batch:batch-1"]) == [job]
    await stores.kill(batch)
    await store.bury_dead()
    await claim(stores, store)
    assert await ready(store) == [job]


# -- what may run --------------------------------------------------------------------------------------


async def test_ready_is_ordered_bounded_and_scoped(stores: Stores, store: AnyStore) -> None:
    ids = [await claim(stores, store, f"{number}.mp3", str(number)) for number in range(4)]
    other = await claim(stores, store, "x.mp3", "x", where=origin("inbox:/other"))
    assert await ready(store) == ids
    assert await ready(store, limit=2) == ids[:2]
    assert await ready(store, limit=2, without=ids[:1]) == ids[1:3]
    assert await ready(store, ["inbox:/other"]) == [other]
    assert await ready(store, []) == []
    # What has failed before lets the others go first.
    await store.finish(await begin(store, ids[0]), Retry(0.0, "media.crashed", "", ""))
    assert await ready(store) == [*ids[1:], ids[0]]


async def test_begin_leases_a_queued_job_once(stores: Stores, store: AnyStore) -> None:
    job = await claim(stores, store)
    lease = await begin(store, job)
    assert lease.epoch == 1
    assert lease.job.state is JobState.RUNNING
    assert lease.job.started_at == stores.now
    assert lease.transcription.owner_job == job
    assert await skipped(store, job) == "not queued"
    assert await skipped(store, "NO-SUCH-JOB") == "not queued"
    assert await ready(store) == []


ENDS: list[tuple[Outcome, JobState, int]] = [
    (Done(("draft",)), JobState.DONE, 0),
    (Partial(GAPS), JobState.PARTIAL, 0),
    (RETRY, JobState.QUEUED, 1),
    (Wait(Waiting(WaitReason.DISK, None, "full")), JobState.QUEUED, 0),
    (FAIL, JobState.FAILED, 0),
    (Fail("engine.timeout", "m", "h", retryable=True, counted=True), JobState.FAILED, 1),
    (Released(), JobState.QUEUED, 0),
    (LookAgain(), JobState.SETTLING, 0),
    (Vanished(), JobState.VANISHED, 0),
]


@pytest.mark.parametrize(("outcome", "state", "failures"), ENDS, ids=lambda value: type(value).__name__)
async def test_each_outcome_ends_the_lease(
    stores: Stores, store: AnyStore, outcome: Outcome, state: JobState, failures: int
) -> None:
    job_id = await claim(stores, store)
    lease = await begin(store, job_id)
    finished = await store.finish(lease, outcome)
    assert finished is not None
    job = await the_job(store, job_id)
    assert finished.job == job
    assert (job.state, job.failures, job.lease_epoch) == (state, failures, 1)
    assert (job.finished_at == stores.now) is state.final
    if isinstance(outcome, (Retry, Fail)):
        assert job.error is not None
        assert (job.error.code, job.error.hint) == (outcome.code, outcome.hint)
    if isinstance(outcome, Done):
        assert job.flags == ("draft",)
    assert await store.finish(lease, Done()) is None


@pytest.mark.parametrize("outcome", [end[0] for end in ENDS], ids=lambda value: type(value).__name__)
async def test_late_worker_writes_nothing(stores: Stores, store: AnyStore, outcome: Outcome) -> None:
    job_id = await claim(stores, store)
    late = await begin(store, job_id)
    await store.finish(late, Released())
    lease = await begin(store, job_id)
    assert lease.epoch == late.epoch + 1
    before = await the_job(store, job_id), await store.history(job_id)
    assert await store.finish(late, outcome) is None
    calls: list[Awaitable[object]] = [
        store.save_media(late, MediaInfo("mp3", "mp3", 1.0, 1)),
        store.restart_cuts(late, "pcm"),
        store.save_cut(late, Cut(0, 0, 1, "0.ogg", 1)),
        store.split_cuts(late, [0], 30.0),
        store.lose_chunk(late, 0, "engine.rejected"),
        store.finish_cuts(late, samples=1, bad_packets=0),
        store.save_chunk(late, 0, ENGINE, ChunkResult("x"), uploaded_bytes=1, cost_usd=1, audio_s=1),
        store.save_transcript(late, TEXT),
        store.reserve_output(late, "txt", ROOT, b"talk.txt"),
        store.release_output(late, "txt"),
        store.output_written(late, "txt", "0" * 64),
    ]
    for call in calls:
        with pytest.raises(LeaseLost):
            await call
    assert (await the_job(store, job_id), await store.history(job_id)) == before
    assert await store.outputs(job_id) == []
    await store.finish(lease, Released())
    assert (await begin(store, job_id)).transcription.cuts == ()


async def test_retry_waits_for_its_time(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    await store.finish(await begin(store, job_id), RETRY)
    assert await ready(store) == []
    assert await store.next_due(SCOPES) == pytest.approx(30)
    job = await the_job(store, job_id)
    assert job.waiting == Waiting(WaitReason.RETRY, stores.now + timedelta(seconds=30), "engine.timeout")
    await stores.clock.advance(29.9)
    assert await ready(store) == []
    await stores.clock.advance(0.2)
    assert await ready(store) == [job_id]
    assert await store.next_due(SCOPES) is None
    assert (await begin(store, job_id)).job.waiting is None


WAITS = [reason for reason in WaitReason if reason not in (WaitReason.ENGINE_PAUSED, WaitReason.ORIGINAL)]


@pytest.mark.parametrize("reason", WAITS)
async def test_wait_is_not_counted_and_ends_in_time(
    stores: Stores, store: AnyStore, reason: WaitReason
) -> None:
    job_id = await claim(stores, store)
    waiting = Waiting(reason, stores.now + timedelta(hours=1), "because \udcff")
    await store.finish(await begin(store, job_id), Wait(waiting))
    job = await the_job(store, job_id)
    assert (job.failures, job.waiting) == (0, Waiting(reason, waiting.until, "because \\udcff"))
    assert await store.waiting() == {reason: 1}
    assert await ready(store) == []
    await stores.clock.advance(3601)
    assert await ready(store) == ([] if reason is WaitReason.CONFIG else [job_id])


async def test_clock_set_back_holds_nothing_up(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    await store.finish(await begin(store, job_id), RETRY)
    stores.clock.jump_wall(-86_400)
    assert await ready(store) == [job_id]
    # Steps such as NTP makes are no reason to ignore a wait.
    await store.finish(await begin(store, job_id), RETRY)
    stores.clock.jump_wall(-2)
    assert await ready(store) == []


async def test_clock_set_forward_ends_waits(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    await store.finish(await begin(store, job_id), RETRY)
    stores.clock.jump_wall(365 * 86_400)
    assert await ready(store) == [job_id]


async def test_changed_file_is_looked_at_anew(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store, content="a")
    await store.finish(await begin(store, job_id), RETRY)
    await stores.clock.advance(31)
    await store.finish(await begin(store, job_id), LookAgain())
    assert await known(store, ROOT) == {}
    assert list(await store.unsettled(ROOT)) == [b"talk.mp3"]
    assert await claim(stores, store, content="b") == job_id
    job = await the_job(store, job_id)
    assert (job.state, job.failures, job.error) == (
        JobState.QUEUED,
        0,
        None,
    )  # another content, another count
    assert (await begin(store, job_id)).transcription.key.sha256 == job.sha256


async def test_vanished_file_is_forgotten(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    await store.finish(await begin(store, job_id), Vanished())
    assert await known(store, ROOT) == {}
    assert await ready(store) == []


# -- copies --------------------------------------------------------------------------------------------


async def test_copy_waits_for_its_original_and_costs_nothing(stores: Stores, store: AnyStore) -> None:
    original, copy = await claim(stores, store, "one.mp3"), await claim(stores, store, "two.mp3")
    lease = await begin(store, original)
    assert await skipped(store, copy) == "the original is in work"
    waiting = (await the_job(store, copy)).waiting
    assert waiting == Waiting(WaitReason.ORIGINAL, None, original)
    assert await ready(store) == []
    await transcribe(store, lease)
    finished = await store.finish(lease, Done())
    assert finished is not None
    assert finished.released == 1
    assert await ready(store) == [copy]
    second = await begin(store, copy)
    assert second.transcription.transcript == TEXT
    assert second.job.duplicate_of == (original, b"/in/one.mp3")
    await store.finish(second, Done())
    job = await the_job(store, copy)
    assert (job.state, job.usage) == (JobState.DUPLICATE, Usage())
    assert (await the_job(store, original)).usage == Usage(60.0, 1, 500, 0.006)


@pytest.mark.parametrize("outcome", [FAIL, Vanished(), LookAgain()], ids=lambda value: type(value).__name__)
async def test_copy_takes_over_from_an_original_that_gave_up(
    stores: Stores, store: AnyStore, outcome: Outcome
) -> None:
    original, first = await claim(stores, store, "one.mp3"), await claim(stores, store, "two.mp3")
    second = await claim(stores, store, "three.mp3")
    lease = await begin(store, original)
    for copy in (first, second):
        await skipped(store, copy)
    finished = await store.finish(lease, outcome)
    assert finished is not None
    assert finished.released == 2
    taken = await begin(store, first)
    assert taken.transcription.owner_job == first
    assert taken.job.duplicate_of is None
    assert await skipped(store, second) == "the original is in work"  # one at a time


async def test_copy_in_the_same_scope_waits_while_its_original_tries_again(
    stores: Stores, store: AnyStore
) -> None:
    original, copy = await claim(stores, store, "one.mp3"), await claim(stores, store, "two.mp3")
    lease = await begin(store, original)
    await skipped(store, copy)
    finished = await store.finish(lease, RETRY)
    assert finished is not None
    assert finished.released == 0
    assert await skipped(store, copy) == "the original is in work"


async def test_copy_does_not_wait_for_a_queue_that_nobody_may_work_on(
    stores: Stores, store: AnyStore
) -> None:
    # The inbox /old was taken out of the configuration with a file in its queue.
    original = await claim(stores, store, "one.mp3", where=origin("inbox:/old"))
    copy = await claim(stores, store, "two.mp3")
    lease = await begin(store, copy)
    assert lease.transcription.transcript is None
    # Should somebody come to it after all, it is the copy now.
    assert await skipped(store, original) == "the original is in work"
    await transcribe(store, lease)
    await store.finish(lease, Done())
    assert (await begin(store, original)).job.duplicate_of == (copy, b"/in/two.mp3")


async def test_copy_elsewhere_waits_only_while_the_original_runs(stores: Stores, store: AnyStore) -> None:
    original = await claim(stores, store, "one.mp3", where=origin("inbox:/other"))
    copy = await claim(stores, store, "two.mp3")
    lease = await begin(store, original)
    assert await skipped(store, copy) == "the original is in work"
    finished = await store.finish(lease, RETRY)
    assert finished is not None
    assert finished.released == 1
    assert await ready(store) == [copy]
    assert (await begin(store, copy)).transcription.owner_job == copy


async def test_copy_gets_the_text_of_an_original_that_could_not_be_delivered(
    stores: Stores, store: AnyStore
) -> None:
    original, copy = await claim(stores, store, "one.mp3"), await claim(stores, store, "two.mp3")
    lease = await begin(store, original)
    await transcribe(store, lease)
    await store.finish(lease, Fail("output.unwritable", "m", "h", retryable=True, counted=True))
    assert (await begin(store, copy)).transcription.transcript == TEXT
    assert await store.retry([original]) == [original]
    assert (await begin(store, original)).transcription.transcript == TEXT


async def test_copy_of_a_file_that_changed_under_its_worker_is_transcribed(
    stores: Stores, store: AnyStore
) -> None:
    original = await claim(stores, store, "one.mp3", content="a")
    copy = await claim(stores, store, "two.mp3", content="a")
    lease = await begin(store, original)
    await store.finish(lease, LookAgain())
    assert await claim(stores, store, "one.mp3", content="b") == original
    first, second = await begin(store, copy), await begin(store, original)
    assert first.transcription.id != second.transcription.id


# -- processes -----------------------------------------------------------------------------------------


async def test_killed_process_s_jobs_are_requeued_and_its_leases_fenced(stores: Stores) -> None:
    dead = await stores.open("daemon-1")
    original, copy = await claim(stores, dead, "one.mp3"), await claim(stores, dead, "two.mp3")
    lease = await begin(dead, original)
    await skipped(dead, copy)
    beside = await stores.open("batch-1")
    assert await beside.bury_dead() == []
    await stores.kill(dead)
    assert await beside.bury_dead() == [original]
    assert await beside.bury_dead() == []
    assert await ready(beside) == [original, copy]
    assert await beside.finish(lease, Done()) is None
    assert (await begin(beside, original)).epoch == lease.epoch + 1
    assert await skipped(beside, copy) == "the original is in work"


async def test_opening_buries_the_dead(stores: Stores) -> None:
    dead = await stores.open("daemon-1")
    job = await claim(stores, dead)
    await begin(dead, job)
    await stores.kill(dead)
    store = await stores.open("daemon-2")
    assert await ready(store) == [job]
    assert [entry.event for entry in await store.history(job)][-2:] == ["started", "released"]


async def test_clean_end_leaves_no_lease_behind(stores: Stores) -> None:
    first = await stores.open("daemon-1")
    job = await claim(stores, first)
    await begin(first, job)
    await stores.close(first)
    assert await ready(await stores.open("daemon-2")) == [job]


async def test_queue_that_starts_anew_gets_back_what_its_process_held(stores: Stores) -> None:
    store, other = await stores.open("daemon-1"), await stores.open("batch-1")
    mine, theirs = await claim(stores, store, "a.mp3", "a"), await claim(stores, store, "b.mp3", "b")
    await begin(store, mine)
    await begin(other, theirs)
    assert await store.reclaim() == [mine]
    assert await ready(store) == [mine]


async def test_everything_is_there_after_a_restart(stores: Stores) -> None:
    first = await stores.open("daemon-1")
    job_id = await _done(stores, first)
    before = await the_job(first, job_id), await first.history(job_id), await known(first, ROOT)
    await stores.close(first)
    store = await stores.open("daemon-2")
    assert (await the_job(store, job_id), await store.history(job_id), await known(store, ROOT)) == before


# -- retry by hand -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome", [FAIL, Partial(GAPS), Vanished(), RETRY, Wait(Waiting(WaitReason.CONFIG))], ids=repr
)
async def test_retry_queues_anew_and_counts_from_zero(
    stores: Stores, store: AnyStore, outcome: Outcome
) -> None:
    job_id = await claim(stores, store)
    await store.finish(await begin(store, job_id), RETRY)
    await stores.clock.advance(31)
    await store.finish(await begin(store, job_id), outcome)
    assert await store.retry([job_id, "NO-SUCH-JOB"]) == [job_id]
    job = await the_job(store, job_id)
    assert (job.state, job.failures, job.waiting) == (JobState.QUEUED, 0, None)
    assert await ready(store) == [job_id]


async def test_retry_leaves_alone_what_is_well(stores: Stores, store: AnyStore) -> None:
    done = await _done(stores, store)
    running = await claim(stores, store, "b.mp3", "b")
    copy = await claim(stores, store, "c.mp3", "b")
    settling = await store.settling(origin(), ref("d.mp3"), stores.now)
    await begin(store, running)
    await skipped(store, copy)
    assert await store.retry([done, running, copy, settling]) == []


async def test_retry_of_a_refused_file_lets_intake_look_again(stores: Stores, store: AnyStore) -> None:
    refused = (await store.refuse(origin(), ref(), stores.now, Fault("source.unreadable"))).job
    assert await store.retry([refused]) == [refused]
    assert await known(store, ROOT) == {}
    assert list(await store.unsettled(ROOT)) == [b"talk.mp3"]
    assert (await the_job(store, refused)).error is None
    assert await claim(stores, store) == refused


async def test_retry_of_a_failed_copy(stores: Stores, store: AnyStore) -> None:
    original, copy = await claim(stores, store, "one.mp3"), await claim(stores, store, "two.mp3")
    await store.finish(await begin(store, original), FAIL)
    await store.finish(await begin(store, copy), FAIL)
    assert await store.retry([original, copy]) == [original, copy]
    assert await skipped(store, original) == "the original is in work"  # the copy has taken it over
    lease = await begin(store, copy)
    await transcribe(store, lease)
    await store.finish(lease, Done())
    assert (await begin(store, original)).transcription.transcript == TEXT


# -- the plan, the answers, the text -------------------------------------------------------------------


async def test_work_is_kept_step_by_step(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    lease = await begin(store, job_id)
    media = MediaInfo("matroska", "opus", 61.5, 2, "2026-01-01")
    cuts = [Cut(0, 0, 480_000, "0.ogg", 10), Cut(1, 480_000, 960_000, "1.ogg", 11)]
    await store.restart_cuts(lease, "opus")
    await store.save_media(lease, media)
    for cut in (*cuts, cuts[0]):  # a resume finds the same ones again
        await store.save_cut(lease, cut)
    await store.finish_cuts(lease, samples=960_000, bad_packets=3)
    result = ChunkResult(
        "hello \ud800",  # what a server may spell, no file can hold
        (Segment(0.0, math.inf, "hello", "A", (Word(0.0, 1.0, "hello"),)),),
        ("en",),
        "engine",
        0.1,
        29.0,
        ("repetition",),
    )
    await store.save_chunk(lease, 0, ENGINE, result, uploaded_bytes=10, cost_usd=0.5, audio_s=30.0)
    job = await the_job(store, job_id)
    assert (job.chunks_done, job.chunks_total, job.media) == (1, 2, media.evolve(decoded_s=60.0))
    assert (job.engine, job.usage) == (ENGINE, Usage(30.0, 1, 10, 0.5))
    await store.finish(lease, Released())
    known = (await begin(store, job_id)).transcription
    assert known.cuts == tuple(cuts)
    assert (known.cuts_complete, known.samples, known.bad_packets) == (True, 960_000, 3)
    assert (known.encoding, known.media, known.engine) == ("opus", media, ENGINE)
    assert known.results == {0: result}
    assert known.transcript is None


async def test_plan_that_is_dropped_keeps_what_was_paid(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    lease = await begin(store, job_id)
    for index in range(3):
        await store.save_cut(lease, Cut(index, index, index + 1, f"{index}.ogg", 1))
    await store.finish_cuts(lease, samples=3, bad_packets=0)
    await store.save_chunk(lease, 1, ENGINE, ChunkResult("b"), uploaded_bytes=1, cost_usd=0.0, audio_s=1.0)
    await store.restart_cuts(lease, "pcm")
    await store.finish(lease, Released())
    known = (await begin(store, job_id)).transcription
    assert [cut.index for cut in known.cuts] == [1]
    assert known.results[1].text == "b"
    assert (known.encoding, known.cuts_complete, known.samples) == ("pcm", False, None)


async def test_cut_is_kept_with_its_edges_and_its_new_file(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    lease = await begin(store, job_id)
    torn = Cut(3, 10, 90, "0003.ogg", 7, torn_start=True, torn_end=True)
    again = replace(torn, file="0003.wav", size_bytes=70)
    await store.save_cut(lease, Cut(0, 0, 42, "0000.ogg", 7, torn_end=True))
    await store.save_cut(lease, torn)
    await store.save_cut(lease, again)
    await store.save_chunk(lease, 0, ENGINE, ChunkResult("a"), uploaded_bytes=1, cost_usd=0.0, audio_s=1.0)
    await store.save_cut(lease, Cut(0, 0, 42, "0000.wav", 70, torn_end=True))  # answered: stays as it was
    await store.finish(lease, Released())
    known = (await begin(store, job_id)).transcription
    assert known.cuts == (Cut(0, 0, 42, "0000.ogg", 7, torn_end=True), again)


async def test_what_listening_added_takes_the_place_of_the_answer(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    lease = await begin(store, job_id)
    for index in range(2):
        await store.save_cut(lease, Cut(index, index, index + 1, f"{index}.ogg", 1))
    await store.save_chunk(lease, 0, ENGINE, ChunkResult("a"), uploaded_bytes=1, cost_usd=0.5, audio_s=1.0)
    heard = ChunkResult(
        "a", (Segment(0, 1, "a", "Ann", (Word(0, 1, "a"),)),), timestamps="aligned",
        doubts=(Doubt("repetition", 0.25, 1.0),),
    )  # fmt: skip
    await store.save_heard(lease, 0, heard)
    await store.save_heard(lease, 1, heard)  # has no answer: nothing to add to
    usage = (await the_job(store, job_id)).usage
    assert (usage.requests, usage.cost_usd) == (1, 0.5)
    await store.finish(lease, Released())
    assert (await begin(store, job_id)).transcription.results == {0: heard}
    with pytest.raises(LeaseLost):
        await store.save_heard(lease, 0, ChunkResult("late"))


async def test_doubts_are_shown_once_the_job_ends(stores: Stores, store: AnyStore) -> None:
    doubts = (Doubt("repetition", 1.0, 2.5),)
    job_id = await claim(stores, store)
    lease = await begin(store, job_id)
    await transcribe(store, lease, Transcript("a", (), 60.0, doubts=doubts))
    assert (await the_job(store, job_id)).doubts == ()
    await store.finish(lease, Done(("repetition",)))
    assert (await the_job(store, job_id)).doubts == doubts


async def test_silent_cut_needs_no_answer(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    lease = await begin(store, job_id)
    await store.save_cut(lease, Cut(0, 0, 42, "", 0, silent=True))
    job = await the_job(store, job_id)
    assert (job.chunks_done, job.chunks_total, job.usage.requests, job.engine) == (1, 1, 0, None)
    await store.finish(lease, Released())
    known = (await begin(store, job_id)).transcription
    assert (known.cuts[0].silent, known.results) == (True, {0: ChunkResult("")})


async def test_split_drops_what_was_not_answered_and_keeps_the_smallest_limit(
    stores: Stores, store: AnyStore
) -> None:
    job_id = await claim(stores, store)
    lease = await begin(store, job_id)
    for index in range(4):
        await store.save_cut(lease, Cut(index, index, index + 1, f"{index}.ogg", 1))
    await store.save_chunk(lease, 1, ENGINE, ChunkResult("b"), uploaded_bytes=1, cost_usd=0.0, audio_s=1.0)
    await store.split_cuts(lease, [0, 1, 2], 50.0)
    await store.split_cuts(lease, [], 80.0)
    await store.finish(lease, Released())
    known = (await begin(store, job_id)).transcription
    assert [cut.index for cut in known.cuts] == [1, 3]
    assert (known.results[1].text, known.max_s) == ("b", 50.0)


async def test_what_was_given_up_is_owed_again_after_a_retry(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    lease = await begin(store, job_id)
    for index in range(2):
        await store.save_cut(lease, Cut(index, index, index + 1, f"{index}.ogg", 1))
    await store.finish_cuts(lease, samples=2, bad_packets=0)
    await store.save_chunk(lease, 0, ENGINE, ChunkResult("a"), uploaded_bytes=1, cost_usd=0.0, audio_s=1.0)
    await store.lose_chunk(lease, 1, "engine.rejected")
    await store.lose_chunk(lease, 0, "engine.rejected")  # has its answer: nothing to give up
    await store.finish(lease, Released())
    lease = await begin(store, job_id)
    assert lease.transcription.losses == {1: "engine.rejected"}
    await store.save_transcript(lease, Transcript("a", (), 2.0, gaps=GAPS))
    await store.finish(lease, Partial(GAPS))
    assert (await the_job(store, job_id)).gaps == GAPS
    assert await store.retry([job_id]) == [job_id]
    again = (await begin(store, job_id)).transcription
    assert (again.transcript, again.losses, again.results[0].text) == (None, {}, "a")


async def test_failures_count_anew_once_something_was_answered(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    for anew, failures in ((False, 1), (False, 2), (True, 1), (False, 2)):
        await store.finish(await begin(store, job_id), Retry(0.0, "engine.timeout", "", "", anew=anew))
        assert (await the_job(store, job_id)).failures == failures


async def test_transcript_survives_and_shows_when_the_job_ends(stores: Stores, store: AnyStore) -> None:
    text = Transcript("a \ud800 b", (Segment(0.0, 1.5, "a"),), 60.0, ("de",), "engine", ("draft",), GAPS)
    job_id = await claim(stores, store)
    lease = await begin(store, job_id)
    await transcribe(store, lease, text)
    assert (await the_job(store, job_id)).languages == ()
    await store.finish(lease, Partial(GAPS))
    job = await the_job(store, job_id)
    assert (job.languages, job.timestamps, job.gaps) == (("de",), "engine", GAPS)


async def test_whole_transcript_survives_a_failure_behind_it(stores: Stores, store: AnyStore) -> None:
    text = Transcript("a \ud800 b", (Segment(0.0, 1.5, "a"),), 60.0, ("de",), "engine", ("draft",))
    job_id = await claim(stores, store)
    lease = await begin(store, job_id)
    await transcribe(store, lease, text)
    await store.finish(lease, FAIL)
    await store.retry([job_id])
    assert (await begin(store, job_id)).transcription.transcript == text


# -- names ---------------------------------------------------------------------------------------------


async def test_output_name_belongs_to_one_job_and_format(stores: Stores, store: AnyStore) -> None:
    first = await begin(store, await claim(stores, store, "a.mp3", "a"))
    second = await begin(store, await claim(stores, store, "b.mp3", "b"))
    assert await store.reserve_output(first, "txt", ROOT, "Caf\u00e9.txt".encode())
    for name in ("Caf\u00e9.txt", "CAFE\u0301.TXT"):  # compared folded and composed
        assert not await store.reserve_output(second, "txt", ROOT, name.encode())
        assert not await store.reserve_output(first, "json", ROOT, name.encode())
        assert await store.reserve_output(first, "txt", ROOT, name.encode())
    assert await store.reserve_output(second, "txt", b"/elsewhere", "Caf\u00e9.txt".encode())
    await store.release_output(first, "txt")
    assert await store.reserve_output(second, "txt", ROOT, "Caf\u00e9.txt".encode())


async def test_outputs_show_once_they_are_written(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    lease = await begin(store, job_id)
    await store.reserve_output(lease, "txt", ROOT, b"\xff.txt")
    assert (await the_job(store, job_id)).outputs == ()
    ((folder, output),) = await store.outputs(job_id)
    assert (folder, output.format, output.name, output.sha256) == (ROOT, "txt", b"\xff.txt", None)
    await store.output_written(lease, "txt", "ab" * 32)
    ((_, written),) = await store.outputs(job_id)
    assert written.sha256 == "ab" * 32
    assert (await the_job(store, job_id)).outputs == (written,)


# -- status files ----------------------------------------------------------------------------------------


async def test_status_is_due_after_ten_seconds_and_at_the_end_at_once(
    stores: Stores, store: AnyStore
) -> None:
    job_id = await claim(stores, store)
    assert await _due(store) == []
    await stores.clock.advance(10)
    ((job, revision),) = await store.status_due(SCOPES, limit=10)
    assert job.id == job_id
    await store.status_written(job_id, revision, "ab" * 32)
    assert await _due(store) == []
    lease = await begin(store, job_id)
    await stores.clock.advance(10)
    assert await _due(store) == [job_id]
    await store.finish(lease, FAIL)
    assert await _due(store) == [job_id]
    assert await store.status_due(["inbox:/other"], limit=10) == []


async def test_status_is_written_at_most_every_ten_seconds(stores: Stores, store: AnyStore) -> None:
    lease = await begin(store, await claim(stores, store))
    await stores.clock.advance(20)
    await _write_status(store)
    for index in range(3):
        await store.save_cut(lease, Cut(index, 0, 1, "x", 1))
        await store.finish_cuts(lease, samples=1, bad_packets=0)
        assert await _due(store) == []
    await stores.clock.advance(10)
    assert await _due(store) == [lease.job.id]


async def test_change_while_the_status_is_written_is_written_next(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    await store.finish(await begin(store, job_id), FAIL)
    ((_, revision),) = await store.status_due(SCOPES, limit=10)
    await store.retry([job_id])
    await store.status_written(job_id, revision, "ab" * 32)
    await stores.clock.advance(10)
    assert await _due(store) == [job_id]


async def test_status_files_that_cannot_be_written_do_not_starve_the_others(
    stores: Stores, store: AnyStore
) -> None:
    ids = [await claim(stores, store, f"{number}.mp3", str(number)) for number in range(5)]
    await stores.clock.advance(10)
    assert [job.id for job, _ in await store.status_due(SCOPES, limit=3)] == ids[:3]
    assert [job.id for job, _ in await store.status_due(SCOPES, limit=3, without=ids[:3])] == ids[3:]


async def test_status_is_due_although_the_clock_was_set_back(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    stores.clock.jump_wall(-3600)
    assert await _due(store) == [job_id]


async def test_new_job_of_a_path_takes_the_status_file_s_name(stores: Stores, store: AnyStore) -> None:
    name = b"talk.mp3.status.json"
    old = await claim(stores, store, content="a")
    assert await store.reserve_status(old, ROOT, name)
    stores.clock.jump_wall(-86_400)  # its id sorts before the old one's
    new = await claim(stores, store, content="b")
    other = await claim(stores, store, "other.mp3", content="c")
    assert not await store.reserve_status(other, ROOT, name)
    assert await store.reserve_status(new, ROOT, name)
    assert await store.outputs(old) == []
    assert not await store.reserve_status(old, ROOT, name)
    await store.status_written(new, 1, "cd" * 32)
    ((_, output),) = await store.outputs(new)
    assert (output.format, output.sha256) == ("status", "cd" * 32)
    assert (await the_job(store, new)).outputs == ()  # people do not count it among the outputs


# -- what people ask -------------------------------------------------------------------------------------


async def test_jobs_are_listed_newest_first(stores: Stores, store: AnyStore) -> None:
    first = await _done(stores, store)
    second = await claim(stores, store, "b.mp3", "b", where=origin("inbox:/other"))
    assert [job.id for job in await store.jobs()] == [second, first]
    assert [job.id for job in await store.jobs(limit=1)] == [second]
    assert [job.id for job in await store.jobs(state=JobState.DONE)] == [first]
    assert [job.id for job in await store.jobs(inbox="other")] == [second]
    assert [job.id for job in await store.jobs(path=b"/in/talk.mp3")] == [first]
    assert await store.jobs(path=b"/in/talk") == []
    assert await store.counts() == {"done": 1, "queued": 1}
    assert await store.job("NO-SUCH-JOB") is None
    assert await store.history("NO-SUCH-JOB") == []


async def test_id_is_found_by_its_beginning(stores: Stores, store: AnyStore) -> None:
    job_id = await claim(stores, store)
    for prefix in (job_id, job_id[:12], job_id[:12].lower()):
        assert await store.by_prefix(prefix) == [job_id]
    assert await store.by_prefix("ZZ") == []
    for number in range(25):
        await claim(stores, store, f"{number}.mp3", str(number))
    assert len(await store.by_prefix(job_id[:2])) == 20


async def test_many_at_once_leave_nothing_out(stores: Stores, store: AnyStore) -> None:
    ids = [await claim(stores, store, f"{number}.mp3", str(number)) for number in range(20)]

    async def work(job_id: str) -> None:
        lease = await begin(store, job_id)
        await transcribe(store, lease)
        assert await store.reserve_output(lease, "txt", ROOT, f"{job_id}.txt".encode())
        await store.output_written(lease, "txt", "ab" * 32)
        assert await store.finish(lease, Done()) is not None

    async with asyncio.TaskGroup() as group:
        for job_id in ids:
            group.create_task(work(job_id))
    jobs = await store.jobs()
    assert {job.state for job in jobs} == {JobState.DONE}
    assert all(len(job.outputs) == 1 and job.usage.requests == 1 for job in jobs)


async def _done(stores: Stores, store: AnyStore) -> str:
    """A finished job whose status file is written."""
    job_id = await claim(stores, store)
    lease = await begin(store, job_id)
    await transcribe(store, lease)
    await store.finish(lease, Done())
    await _write_status(store)
    return job_id


async def _due(store: AnyStore) -> list[str]:
    return [job.id for job, _ in await store.status_due(SCOPES, limit=100)]


async def _write_status(store: AnyStore) -> None:
    for job, revision in await store.status_due(SCOPES, limit=100):
        await store.status_written(job.id, revision, "ab" * 32)
