"""What the state folder forgets, after some days and by command: gone from the disk, not only from sight."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests import stores
from tests.stores import AnyStore, Sqlite, Stores, begin, claim, ready, the_job, transcribe
from tnfd.errors import StoreUnusable
from tnfd.model import JobState, Transcript
from tnfd.ports.queue import Done, Fail
from tnfd.store import database
from tnfd.store.database import FILE_NAME, migrations, open_database
from tnfd.store.sqlite import SqliteStore

SECRET = Transcript("the heron knows the combination", (), 60.0, ("en",), "none")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Stores]:
    world = Stores(Sqlite(), tmp_path)
    yield world
    await world.close_all()


async def finished(world: Stores, store: AnyStore, rel: str = "talk.mp3", content: str = "a") -> str:
    job = await claim(world, store, rel, content)
    lease = await begin(store, job)
    await transcribe(store, lease, SECRET)
    await store.finish(lease, Done())
    return job


def on_disk(folder: Path) -> bool:
    return any(b"heron" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def expire(store: AnyStore, world: Stores, days: float) -> list[int]:
    assert isinstance(store, SqliteStore)
    return await store.expire(world.now - timedelta(days=days))


async def test_text_goes_after_its_days_and_the_job_stays(world: Stores, tmp_path: Path) -> None:
    store = await world.open()
    job = await finished(world, store)
    before = await the_job(store, job)
    await world.clock.advance(3 * 86400)
    assert await expire(store, world, 4) == []
    assert on_disk(tmp_path)
    assert len(await expire(store, world, 2)) == 1
    assert not on_disk(tmp_path)
    after = await the_job(store, job)
    assert after.state is JobState.DONE
    assert (after.usage, after.engine, after.languages) == (before.usage, before.engine, before.languages)
    assert await expire(store, world, 2) == []


async def test_the_same_content_later_is_transcribed_anew(world: Stores) -> None:
    store = await world.open()
    first = await finished(world, store)
    await world.clock.advance(86400)
    await expire(store, world, 0.5)
    copy = await claim(world, store, "copy.mp3", "a")
    lease = await begin(store, copy)
    assert lease.transcription.transcript is None
    assert lease.job.duplicate_of is None
    await transcribe(store, lease)
    await store.finish(lease, Done())
    third = await begin(store, await claim(world, store, "third.mp3", "a"))
    assert third.transcription.transcript == stores.TEXT  # and is found by those that come then
    assert first != copy


async def test_what_is_still_needed_is_not_touched(world: Stores) -> None:
    store = await world.open()
    await finished(world, store)
    waiting = await claim(world, store, "copy.mp3", "a")  # a copy that has not been written yet
    await world.clock.advance(86400)
    assert await expire(store, world, 0.5) == []
    assert (await begin(store, waiting)).transcription.transcript == SECRET


@pytest.mark.parametrize("copied", [False, True])
async def test_a_job_that_is_tried_again_after_its_text_has_gone(world: Stores, copied: bool) -> None:
    store = await world.open()
    job = await claim(world, store)
    lease = await begin(store, job)
    await transcribe(store, lease, SECRET)
    await store.finish(lease, Fail("output.unwritable", "m", "h", retryable=True, counted=True))
    await world.clock.advance(86400)
    assert len(await expire(store, world, 0.5)) == 1
    if copied:
        other = await begin(store, await claim(world, store, "copy.mp3", "a"))
        await transcribe(store, other)
        await store.finish(other, Done())
    await store.retry([job])
    assert await ready(store) == [job]
    again = await begin(store, job)
    assert again.transcription.transcript == (stores.TEXT if copied else None)
    if not copied:
        await transcribe(store, again)
    assert await store.finish(again, Done()) is not None
    last = await begin(store, await claim(world, store, "last.mp3", "a"))
    assert last.transcription.transcript == stores.TEXT


# -- backups ------------------------------------------------------------------------------------------------


def test_a_migration_leaves_a_backup_of_the_former_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / FILE_NAME
    open_database(path).close()
    assert [one.name for one in tmp_path.iterdir()] == [FILE_NAME]  # a new file has nothing to be backed up
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO started VALUES (x'2f', 1.0)")
    connection.close()
    known = len(migrations())
    more = [*migrations(), "CREATE TABLE more (a TEXT) STRICT;\n"]
    monkeypatch.setattr(database, "migrations", lambda: more)
    open_database(path).close()
    backup = tmp_path / f"{FILE_NAME}.v{known}.bak"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with sqlite3.connect(backup) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (known,)
        assert connection.execute("SELECT count(*) FROM started").fetchone() == (1,)
    connection.close()
    backup.unlink()
    open_database(path).close()  # up to date: nothing is changed, nothing backed up
    assert not backup.exists()


def test_without_room_for_a_backup_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / FILE_NAME
    open_database(path).close()
    known = len(migrations())
    (tmp_path / f"{FILE_NAME}.v{known}.bak.part").mkdir()  # something is in the way
    more = [*migrations(), "CREATE TABLE more (a TEXT) STRICT;\n"]
    monkeypatch.setattr(database, "migrations", lambda: more)
    with pytest.raises(StoreUnusable, match="no backup"):
        open_database(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (known,)
    connection.close()
