"""The one writing thread on a real file: groups, units that fail, callers that leave, disks that are full."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tnfd.errors import Fault, StoreUnusable
from tnfd.store.writer import Writer

Unit = Callable[[sqlite3.Connection], object]


def connect(path: Path, *, timeout_s: float = 10.0) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=timeout_s)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS note (text TEXT UNIQUE NOT NULL)")
    return connection


def put(text: str) -> Unit:
    return lambda connection: connection.execute("INSERT INTO note VALUES (?)", (text,)).rowcount


def notes(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM note ORDER BY rowid")]


def damage(path: Path) -> None:
    """Leave the header and the schema, and spoil the rest."""
    data = bytearray(path.read_bytes())
    data[8192:] = b"\xa5" * (len(data) - 8192)
    path.write_bytes(data)


class Busy:
    """A unit that holds the writer until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, _connection: sqlite3.Connection) -> None:
        self.begun.set()
        assert self.go.wait(20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.sqlite3"


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as logs:
        yield logs


@pytest.fixture
async def writer(path: Path, logs: list[MutableMapping[str, Any]]) -> AsyncIterator[Writer]:
    writer = Writer(partial(connect, path, timeout_s=0.1))
    await writer.open()
    yield writer
    await writer.close()


async def held(writer: Writer) -> tuple[Busy, asyncio.Task[None]]:
    """Keep the writer busy, so that what comes now is one group."""
    busy = Busy()
    task = asyncio.create_task(writer.run(busy))
    await asyncio.to_thread(busy.begun.wait, 20)
    return busy, task


async def group(writer: Writer, *units: Unit) -> list[object]:
    """Hand units over as one group; return what each returned or raised."""
    busy, first = await held(writer)
    tasks = [asyncio.create_task(writer.run(unit)) for unit in units]
    await asyncio.sleep(0)
    busy.go.set()
    await first
    await asyncio.wait(tasks)
    return [task.exception() or task.result() for task in tasks]


async def test_value_comes_back_once_it_is_durable(writer: Writer, path: Path) -> None:
    assert await writer.run(put("a")) == 1
    assert notes(path) == ["a"]


async def test_what_queued_up_is_one_commit(writer: Writer, path: Path) -> None:
    seen: list[int] = []
    commits: list[str] = []

    def watch(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)

    await writer.run(watch)
    commits.clear()

    def outside(_connection: sqlite3.Connection) -> None:
        seen.append(len(notes(path)))

    await group(writer, put("a"), put("b"), outside, put("c"))
    assert seen == [0]  # nobody sees half a group
    assert notes(path) == ["a", "b", "c"]
    assert len(commits) == 2  # the busy one's, and the group's


async def test_long_queue_is_taken_in_groups(writer: Writer, path: Path) -> None:
    answers = await group(writer, *(put(f"{number:03}") for number in range(450)))
    assert answers == [1] * 450
    assert notes(path) == [f"{number:03}" for number in range(450)]


async def test_failing_unit_undoes_itself_alone(writer: Writer, path: Path) -> None:
    def half(connection: sqlite3.Connection) -> None:
        put("half")(connection)
        raise ZeroDivisionError("a bug")

    def clash(connection: sqlite3.Connection) -> None:
        put("half, too")(connection)
        put("a")(connection)

    answers = await group(writer, put("a"), half, put("b"), clash, put("c"), lambda c: c.execute("NONSENSE"))
    assert isinstance(answers[1], ZeroDivisionError)
    assert isinstance(answers[3], sqlite3.IntegrityError)
    assert isinstance(answers[5], sqlite3.OperationalError)
    assert (answers[0], answers[2], answers[4]) == (1, 1, 1)
    assert notes(path) == ["a", "b", "c"]


async def test_value_that_sqlite_does_not_take_fails_its_unit_alone(writer: Writer, path: Path) -> None:
    def too_large(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO note VALUES (?)", (2**64,))

    answers = await group(writer, put("a"), too_large, put("\ud800"), put("b"))
    assert isinstance(answers[1], OverflowError)
    assert isinstance(answers[2], UnicodeEncodeError)
    assert notes(path) == ["a", "b"]


async def test_caller_that_leaves_before_its_unit_began_has_done_nothing(writer: Writer, path: Path) -> None:
    busy, first = await held(writer)
    leaving, staying = asyncio.create_task(writer.run(put("a"))), asyncio.create_task(writer.run(put("b")))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    busy.go.set()
    await first
    assert await staying == 1
    assert notes(path) == ["b"]


async def test_caller_that_leaves_in_the_middle_has_done_all(writer: Writer, path: Path) -> None:
    busy = Busy()

    def unit(connection: sqlite3.Connection) -> None:
        put("a")(connection)
        busy(connection)
        put("b")(connection)

    leaving = asyncio.create_task(writer.run(unit))
    await asyncio.to_thread(busy.begun.wait, 20)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    busy.go.set()
    await writer.run(put("c"))
    assert notes(path) == ["a", "b", "c"]


def leave_pages(connection: sqlite3.Connection, pages: int) -> None:
    """Let the disk have room for so many pages more."""
    used = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {used + pages}")


async def test_full_disk_is_waited_out_and_nobody_loses_anything(
    writer: Writer, path: Path, logs: list[MutableMapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tnfd.store.writer._AGAIN_S", 0.01)
    tries: list[int] = []

    def large(connection: sqlite3.Connection) -> None:
        tries.append(len(tries))
        leave_pages(connection, 4 if len(tries) < 3 else 1000)
        put("x" * 100_000)(connection)

    answers = await group(writer, put("a"), large, put("b"))
    await writer.run(put("c"))  # by now it has said all
    assert answers == [1, None, 1]
    assert tries == [0, 1, 2]
    assert notes(path) == ["a", "x" * 100_000, "b", "c"]
    assert [entry["event"] for entry in logs] == ["store.waiting", "store.writes_again"]


async def test_full_disk_fails_what_is_in_progress_once_time_is_short(writer: Writer, path: Path) -> None:
    await writer.run(put("before"))
    await writer.run(lambda connection: leave_pages(connection, 4))
    writer.hurry()
    for answer in await group(writer, put("a"), put("x" * 100_000), put("b")):
        assert isinstance(answer, Fault)
        assert answer.code == "output.disk_full"
    assert notes(path) == ["before"]
    await writer.run(put("after"))  # there is space for this one
    assert notes(path) == ["before", "after"]


async def test_waiting_for_space_ends_when_time_gets_short(writer: Writer) -> None:
    full = threading.Event()

    def large(connection: sqlite3.Connection) -> None:
        leave_pages(connection, 4)
        full.set()
        put("x" * 100_000)(connection)

    task = asyncio.create_task(writer.run(large))
    await asyncio.to_thread(full.wait, 20)
    writer.hurry()
    with pytest.raises(Fault, match=r"output\.disk_full"):
        await task


async def test_database_that_another_program_holds_is_waited_for(
    writer: Writer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tnfd.store.writer._AGAIN_S", 0.01)
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        first = asyncio.create_task(writer.run(put("a")))
        done, _ = await asyncio.wait({first}, timeout=0.3)  # longer than SQLite itself waits here
        assert not done
        other.execute("ROLLBACK")
        assert await first == 1
        other.execute("BEGIN IMMEDIATE")
        writer.hurry()
        with pytest.raises(StoreUnusable, match="held by another program"):
            await writer.run(put("b"))
        other.execute("ROLLBACK")
    assert notes(path) == ["a"]


async def test_short_wait_for_another_program_is_no_error(path: Path) -> None:
    writer = Writer(partial(connect, path))
    await writer.open()
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        task = asyncio.create_task(writer.run(put("a")))
        other.execute("INSERT INTO note VALUES ('other')")
        await asyncio.sleep(0)
        other.execute("COMMIT")
        assert await task == 1
    await writer.close()
    assert notes(path) == ["other", "a"]


async def test_damaged_file_is_no_unit_s_fault(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.executemany("INSERT INTO note VALUES (?)", [("x" * 3000 + str(n),) for n in range(200)])
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(path)
    writer = Writer(partial(connect, path))
    await writer.open()
    with pytest.raises(StoreUnusable, match="cannot be used"):
        await writer.run(lambda c: c.execute("SELECT count(text) FROM note WHERE text > 'w'").fetchall())
    await writer.close()


async def test_closing_commits_what_was_handed_over(path: Path) -> None:
    writer = Writer(partial(connect, path))
    await writer.open()
    busy, first = await held(writer)
    last = asyncio.create_task(writer.run(put("a")))
    await asyncio.sleep(0)
    closing_ = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreUnusable, match="closed"):
        await writer.run(put("too late"))
    busy.go.set()
    await asyncio.gather(first, last, closing_)
    await writer.close()
    assert notes(path) == ["a"]


async def test_opening_that_fails_says_why_and_can_be_closed() -> None:
    def refuse() -> sqlite3.Connection:
        raise StoreUnusable("newer")

    writer = Writer(refuse)
    with pytest.raises(StoreUnusable, match="newer"):
        await writer.open()
    await writer.close()
