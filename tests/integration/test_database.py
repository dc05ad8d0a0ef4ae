"""Opening the database file: what is made, brought up, refused, and never changed by refusing."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import pytest

from tests.stores import SCOPES, Sqlite, Stores, begin, claim, transcribe
from tnfd.errors import StoreUnusable
from tnfd.ports.queue import Done
from tnfd.store import database
from tnfd.store.database import FILE_NAME, migrations, open_database, open_to_read
from tnfd.store.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    stores = Stores(Sqlite(), tmp_path)
    yield stores
    await stores.close_all()


@pytest.fixture
async def store(stores: Stores) -> SqliteStore:
    store = await stores.open()
    assert isinstance(store, SqliteStore)
    return store


def content(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


def schema(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    rows = connection.execute("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name").fetchall()
    return [(row[0], row[1]) for row in rows]


def test_fresh_file_is_brought_up(path: Path) -> None:
    with closing(open_database(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(migrations())
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1
        assert {"job", "transcription", "sight", "spend"} <= {name for name, _ in schema(connection)}
        before = schema(connection)
    with closing(open_database(path)) as connection:
        assert schema(connection) == before


def test_every_table_is_strict(path: Path) -> None:
    with closing(open_database(path)) as connection:
        loose = "SELECT name FROM pragma_table_list WHERE type = 'table' AND NOT strict"
        names = [row[0] for row in connection.execute(loose)]
        assert [name for name in names if not name.startswith("sqlite_")] == []
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_nobody_else_may_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        with closing(open_database(path)) as connection:
            connection.execute("INSERT INTO started VALUES (x'00', 0)")
            modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {FILE_NAME: 0o600, f"{FILE_NAME}-wal": 0o600, f"{FILE_NAME}-shm": 0o600}


def test_older_file_is_brought_up_with_what_it_holds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(open_database(path)) as connection:
        connection.execute("INSERT INTO started VALUES (x'2f', 5.0)")
    scripts = [*migrations(), "CREATE TABLE more (a TEXT) STRICT;\nALTER TABLE job ADD COLUMN later TEXT;\n"]
    monkeypatch.setattr(database, "migrations", lambda: scripts)
    with pytest.raises(StoreUnusable, match="older tnfd"):
        open_database(path, writable=False)
    with closing(open_database(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(scripts)
        assert connection.execute("SELECT root FROM started").fetchone()[0] == b"/"
        connection.execute("SELECT later FROM job, more")
    with closing(open_database(path, writable=False)) as connection:
        connection.execute("SELECT later FROM job, more")


def test_migration_that_fails_leaves_the_former_version(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(open_database(path)) as connection:
        before = schema(connection)
    scripts = [*migrations(), "CREATE TABLE more (a TEXT) STRICT;\nNONSENSE;\n"]
    with monkeypatch.context() as patch:
        patch.setattr(database, "migrations", lambda: scripts)
        with pytest.raises(StoreUnusable, match="NONSENSE"):
            open_database(path)
    with closing(open_database(path)) as connection:
        assert schema(connection) == before


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_newer_file_is_refused_and_unchanged(path: Path, journal: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute("CREATE TABLE job (from_the_future TEXT)")
        connection.execute(f"PRAGMA user_version = {len(migrations()) + 1}")
        connection.commit()
    before = content(path.parent)
    for writable in (True, False):
        with pytest.raises(StoreUnusable, match=r"newer tnfd.*nothing was changed"):
            open_database(path, writable=writable)
        assert content(path.parent)[FILE_NAME] == before[FILE_NAME]


@pytest.mark.parametrize(
    "data",
    [b"not a database" * 1000, b"SQLite format 3\x00" + b"\xff" * 5000],
    ids=["text", "header"],
)
def test_corrupt_file_is_refused_and_unchanged(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    for writable in (True, False):
        with pytest.raises(StoreUnusable, match="cannot be used"):
            open_database(path, writable=writable)
        assert path.read_bytes() == data


def test_truncated_file_is_refused_and_unchanged(path: Path) -> None:
    with closing(open_database(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 + 100)
    before = path.read_bytes()
    with pytest.raises(StoreUnusable):
        open_database(path).execute("SELECT * FROM job, history, spend, control").fetchall()
    assert path.read_bytes() == before


def test_missing_file_is_not_made_for_reading(path: Path) -> None:
    with pytest.raises(StoreUnusable, match=r"cannot be (opened|used)"):
        open_database(path, writable=False)
    assert content(path.parent) == {}


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="No such file"):
        open_database(tmp_path / "none" / FILE_NAME)


def test_folder_in_its_place_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreUnusable):
        open_database(path)


def test_folder_with_any_name(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"a?b#c%20 \xff")
    folder.mkdir()
    for writable in (True, False):
        open_database(folder / FILE_NAME, writable=writable).close()


_OPEN = """
import sys
from pathlib import Path
from tnfd.store.database import open_database
print("ready", flush=True)
sys.stdin.readline()
connection = open_database(Path(sys.argv[1]))
print(connection.execute("PRAGMA user_version").fetchone()[0])
"""


def test_processes_that_open_at_once_all_succeed(path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert outputs == [str(len(migrations()))] * 4


def test_threads_that_open_at_once_all_succeed(tmp_path: Path) -> None:
    for number in range(40):  # each a fresh file: the switch to WAL is where SQLite does not wait
        path = tmp_path / str(number)
        at_once = threading.Barrier(4)

        def opens(path: Path = path, at_once: threading.Barrier = at_once) -> None:
            at_once.wait()
            open_database(path).close()

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(opens) for _ in range(4)]:
                done.result()


def test_reader_of_a_file_without_content_finds_nothing(path: Path) -> None:
    assert open_to_read(path) is None
    path.touch()
    assert open_to_read(path) is None
    assert path.read_bytes() == b""


def test_reader_waits_for_whoever_prepares_the_file(path: Path) -> None:
    path.touch()
    preparing = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(preparing, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(open_to_read, path)
            assert not wait([reading], timeout=0.2).done
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                for script in migrations():
                    connection.executescript(script)
                connection.execute(f"PRAGMA user_version = {len(migrations())}")
            fcntl.flock(preparing, fcntl.LOCK_UN)
            opened = reading.result()
        assert opened is not None
        opened.close()
    finally:
        os.close(preparing)


def test_second_connection_leaves_the_first_one_s_locks(path: Path) -> None:
    # Opening and closing the file itself would drop them (fcntl(2)), and another process could then take away
    # the log under a reader.
    with closing(open_database(path)), closing(open_database(path)):
        locks = Path("/proc/locks").read_text().splitlines() if sys.platform == "linux" else []
        inode = f":{path.stat().st_ino} "
        mine = [line for line in locks if inode in line and f" {os.getpid()} " in line]
        assert len(mine) == 1 or sys.platform != "linux"


# -- the store on it -------------------------------------------------------------------------------------


async def test_store_on_a_newer_file_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("PRAGMA user_version = 999")
    stores = Stores(Sqlite(), tmp_path)
    with pytest.raises(StoreUnusable, match="newer"):
        await stores.open()


async def test_page_that_rots_under_a_running_store_is_named(tmp_path: Path) -> None:
    stores = Stores(Sqlite(), tmp_path)
    store = await stores.open("daemon-1")
    for number in range(300):
        await claim(stores, store, f"{number}.mp3", str(number))
    await stores.close(store)
    path = tmp_path / FILE_NAME
    size = await asyncio.to_thread(rot, path)
    assert size > 100_000
    store = await stores.open("daemon-2")
    with pytest.raises(StoreUnusable, match="cannot be used"):
        await store.jobs()  # read
    with pytest.raises(StoreUnusable, match="cannot be used"):
        await claim(stores, store, "new.mp3", "other")  # written
    await stores.close(store)


def rot(path: Path) -> int:
    """Spoil the pages of the table of jobs, and of nothing else."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = int(connection.execute("PRAGMA page_size").fetchone()[0])
        root = int(connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'job'").fetchone()[0])
    data = bytearray(path.read_bytes())
    data[(root - 1) * size : root * size] = b"\xa5" * size
    path.write_bytes(data)
    return len(data)


async def test_commands_are_told_once_and_in_order(stores: Stores, store: SqliteStore) -> None:
    last = await store.last_command()
    await store.post("retry", "one")
    await store.post("pause")
    first, second = await store.commands(last)
    assert [(one.command, one.argument) for one in (first, second)] == [("retry", "one"), ("pause", "")]
    assert await store.commands(first.id) == [second]
    assert await store.last_command() == second.id


async def test_scratch_is_needed_until_the_text_is_there(stores: Stores, store: SqliteStore) -> None:
    lease = await begin(store, await claim(stores, store))
    assert await store.open_transcriptions() == {lease.transcription.id}
    await transcribe(store, lease)
    await store.finish(lease, Done())
    assert await store.open_transcriptions() == set()
    assert await store.status_behind(SCOPES)
    assert not await store.status_behind(["inbox:/other"])
