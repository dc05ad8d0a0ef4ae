"""What every store owes the room that moves and deletes finished recordings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.stores import (
    BACKENDS,
    ROOT,
    SCOPES,
    AnyStore,
    Backend,
    Stores,
    begin,
    claim,
    known,
    origin,
    skipped,
    stat,
    the_job,
    transcribe,
)
from tnfd.errors import Fault
from tnfd.model import Job, JobState
from tnfd.ports.after import LONGEST_S, SOURCE, Errand
from tnfd.ports.queue import Done, Fail, Partial, Vanished

DONE = b"/in/done"
MOVED = stat(ino=2, ctime_ns=99)


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    backend: Backend = request.param
    stores = Stores(backend, tmp_path)
    yield stores
    await stores.close_all()


@pytest.fixture
async def store(stores: Stores) -> AnyStore:
    return await stores.open()


async def tell(store: AnyStore) -> None:
    """Do what the keeper of status files does."""
    for job, revision in await store.status_due(SCOPES, limit=100):
        await store.reserve_status(job.id, ROOT, b"%s.status.json" % job.source.name)
        await store.status_written(job.id, revision, "5" * 64)


async def finish(
    stores: Stores, store: AnyStore, rel: str = "talk.mp3", content: str = "a", **settings: Any
) -> Job:
    """Claim, transcribe, write ``talk.txt``, finish, say so."""
    job_id = await claim(stores, store, rel, content, origin(**({"after": "move"} | settings)))
    lease = await begin(store, job_id)
    await transcribe(store, lease)
    name = rel.removesuffix(".mp3").encode() + b".txt"
    assert await store.reserve_output(lease, "txt", ROOT, name)
    await store.output_written(lease, "txt", "7" * 64)
    await store.finish(lease, Done())
    await tell(store)
    return await the_job(store, job_id)


def errands(
    name: bytes = b"talk.mp3", text: bytes = b"talk.txt", to_text: bytes = b"talk.txt"
) -> list[Errand]:
    return [
        Errand(SOURCE, "move", ROOT, name, DONE, name),
        Errand("txt", "move", ROOT, text, DONE, to_text),
    ]


async def due(store: AnyStore) -> list[str]:
    return await store.after.due(SCOPES, limit=100, without=())


async def test_a_job_is_due_once_its_status_file_says_that_it_has_ended(
    stores: Stores, store: AnyStore
) -> None:
    job_id = await claim(stores, store, where=origin(after="move"))
    lease = await begin(store, job_id)
    await transcribe(store, lease)
    assert await due(store) == []
    await store.finish(lease, Done())
    assert await due(store) == []
    assert await store.after.load(job_id) is None
    await tell(store)
    assert await due(store) == [job_id]
    loaded = await store.after.load(job_id)
    assert loaded is not None
    assert loaded[1] == ()
    assert await store.after.next_due_s(SCOPES) == 0.0
    assert await store.after.due(SCOPES, limit=100, without=[job_id]) == []
    assert await store.after.due(("inbox:/other",), limit=100, without=()) == []


@pytest.mark.parametrize(
    ("outcome", "owed"),
    [
        (Done(), True),
        (Fail("media.corrupt", "no", "hint", retryable=False), True),
        (Partial(()), False),
        (Vanished(), False),
    ],
)
async def test_only_what_may_be_moved_or_deleted_is_due(
    stores: Stores, store: AnyStore, outcome: Any, owed: bool
) -> None:
    job_id = await claim(stores, store, where=origin(after="delete"))
    await store.finish(await begin(store, job_id), outcome)
    await tell(store)
    assert (await due(store) == [job_id]) is owed


async def test_a_refused_file_is_due_as_well(stores: Stores, store: AnyStore) -> None:
    from tests.stores import ref

    refused = await store.refuse(origin(after="move"), ref(), stores.now, Fault("media.empty"))
    await tell(store)
    assert await due(store) == [refused.job]


async def test_nothing_is_due_where_files_are_kept(stores: Stores, store: AnyStore) -> None:
    await finish(stores, store, after="keep")
    assert await due(store) == []
    assert await store.after.next_due_s(SCOPES) is None


async def test_what_was_moved_lies_elsewhere_and_its_old_path_is_free(
    stores: Stores, store: AnyStore
) -> None:
    job = await finish(stores, store)
    assert await store.after.plan(job.id, errands()) == ()
    assert (await the_job(store, job.id)).moved_to is None
    loaded = await store.after.load(job.id)
    assert loaded is not None
    assert loaded[1] == tuple(errands())
    await store.after.arrived(job.id, SOURCE, MOVED)
    moved = await the_job(store, job.id)
    assert moved.moved_to == b"/in/done/talk.mp3"
    assert moved.source.path == b"/in/talk.mp3"
    assert moved.present.path == b"/in/done/talk.mp3"
    assert moved.present.stat == MOVED
    assert await known(store, ROOT) == {b"done/talk.mp3": MOVED}
    await store.after.arrived(job.id, "txt", None)
    await store.after.over(job.id, "moved", "there", shown=True)
    assert await due(store) == []
    assert [(folder, row.name) for folder, row in await store.outputs(job.id) if row.format == "txt"] == [
        (DONE, b"talk.txt")
    ]
    assert [entry.event for entry in await store.history(job.id)][-1] == "moved"
    assert [one.id for one, _ in await store.status_due(SCOPES, limit=9)] == [job.id]
    assert [one.id for one in await store.jobs(path=b"/in/done/talk.mp3")] == [job.id]
    again = await claim(stores, store, where=origin(after="move"))  # the same content at the old path
    assert again != job.id
    lease = await begin(store, again)
    assert lease.job.duplicate_of == (job.id, b"/in/talk.mp3")
    assert await store.reserve_output(lease, "txt", ROOT, b"talk.txt")


async def test_what_was_deleted_leaves_its_path_free(stores: Stores, store: AnyStore) -> None:
    job = await finish(stores, store, after="delete")
    assert await store.after.plan(job.id, [Errand(SOURCE, "delete", ROOT, b"talk.mp3")]) == ()
    await store.after.arrived(job.id, SOURCE, None)
    await store.after.over(job.id, "deleted", "", shown=False)
    gone = await the_job(store, job.id)
    assert gone.moved_to is None
    assert gone.state is JobState.DONE
    assert await known(store, ROOT) == {}
    assert await store.status_due(SCOPES, limit=9) == []
    assert await claim(stores, store) != job.id


async def test_a_job_whose_files_are_on_their_way_does_not_begin(stores: Stores, store: AnyStore) -> None:
    job = await finish(stores, store, rel="talk.mp3")
    failed = await claim(stores, store, "bad.mp3", "b", origin(after="move"))
    await store.finish(await begin(store, failed), Fail("media.corrupt", "no", "hint", retryable=False))
    await tell(store)
    assert (
        await store.after.plan(failed, [Errand(SOURCE, "move", ROOT, b"bad.mp3", b"/in/failed", b"bad.mp3")])
        == ()
    )
    assert await store.retry([failed]) == [failed]
    assert "moved" in await skipped(store, failed)
    assert set(await due(store)) == {job.id, failed}  # it is brought to its end all the same
    await store.after.arrived(failed, SOURCE, MOVED)
    await store.after.over(failed, "moved", "", shown=False)
    assert await due(store) == [job.id]
    assert (await begin(store, failed)).job.present.path == b"/in/failed/bad.mp3"


async def test_nothing_is_planned_for_a_job_at_work(stores: Stores, store: AnyStore) -> None:
    failed = await claim(stores, store, where=origin(after="move"))
    await store.finish(await begin(store, failed), Fail("media.corrupt", "no", "hint", retryable=False))
    await store.retry([failed])
    assert await store.after.plan(failed, errands()[:1]) is None
    await begin(store, failed)
    assert await store.after.plan(failed, errands()[:1]) is None


async def test_names_of_other_jobs_are_refused(stores: Stores, store: AnyStore) -> None:
    first = await finish(stores, store, "talk.mp3", "a")
    assert await store.after.plan(first.id, errands()) == ()
    other = await finish(stores, store, "other.mp3", "b")
    theirs = errands(b"other.mp3", b"other.txt", b"TALK.txt")
    assert await store.after.plan(other.id, theirs) == ("txt",)
    assert await store.after.plan(other.id, errands(b"other.mp3", b"other.txt", b"other.txt")) == ()
    assert not await store.after.rename(other.id, "txt", b"Talk.TXT")
    assert await store.after.rename(other.id, "txt", b"talk (2).txt")
    loaded = await store.after.load(other.id)
    assert loaded is not None
    assert loaded[1][1].to_name == b"talk (2).txt"


async def test_a_copy_is_remembered_until_its_name_changes(stores: Stores, store: AnyStore) -> None:
    job = await finish(stores, store)
    await store.after.plan(job.id, errands())
    inode = (1 << 64) - 1
    await store.after.copied(job.id, SOURCE, inode)
    loaded = await store.after.load(job.id)
    assert loaded is not None
    assert loaded[1][0].copied_ino == inode
    assert await store.after.rename(job.id, SOURCE, b"talk (2).mp3")
    loaded = await store.after.load(job.id)
    assert loaded is not None
    assert loaded[1][0].copied_ino is None


async def test_a_plan_can_be_called_off(stores: Stores, store: AnyStore) -> None:
    job = await finish(stores, store)
    await store.after.plan(job.id, errands())
    await store.after.call_off(job.id)
    assert await due(store) == [job.id]
    loaded = await store.after.load(job.id)
    assert loaded is not None
    assert loaded[1] == ()
    assert (ROOT, b"talk.txt") in [(folder, row.name) for folder, row in await store.outputs(job.id)]


async def test_what_is_put_off_comes_back_in_time(stores: Stores, store: AnyStore) -> None:
    job = await finish(stores, store)
    await store.after.put_off(job.id, 30.0)
    assert await due(store) == []
    assert await store.after.tries(job.id) == 1
    assert await store.after.next_due_s(SCOPES) == pytest.approx(30.0)
    await stores.clock.advance(31.0)
    assert await due(store) == [job.id]
    await store.after.put_off(job.id, LONGEST_S)
    stores.clock.jump_wall(-86_400.0)  # nobody waits for a day because a clock was set back
    assert await due(store) == [job.id]
    assert await store.after.next_due_s(SCOPES) == 0.0


async def test_a_newer_job_at_the_path_is_noticed(stores: Stores, store: AnyStore) -> None:
    job = await finish(stores, store)
    assert not await store.after.superseded(job)
    await claim(stores, store, content="b")
    assert await store.after.superseded(job)


async def test_an_ended_job_is_due_anew_when_it_ends_again(stores: Stores, store: AnyStore) -> None:
    failed = await claim(stores, store, where=origin(after="move"))
    await store.finish(await begin(store, failed), Fail("media.corrupt", "no", "hint", retryable=True))
    await tell(store)
    await store.after.over(failed, "kept", "", shown=False)
    assert await due(store) == []
    await store.retry([failed])
    lease = await begin(store, failed)
    await transcribe(store, lease)
    await store.finish(lease, Done())
    await tell(store)
    assert await due(store) == [failed]
