"""Which processes live, told by the locks of real processes that are really killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.stores import SCOPES, Sqlite, Stores, claim, ready, the_job
from tnfd.clock import SystemClock
from tnfd.errors import AlreadyRunning
from tnfd.model import JobState
from tnfd.ports.ledger import Spent
from tnfd.store.presence import Presence, daemon_pid, lock_daemon

Start = Callable[[str], "Popen[str]"]

ANNOUNCE = """
from tnfd.store.presence import Presence
presence = Presence(Path(sys.argv[1]))
presence.announce("daemon-1")
"""

DAEMON = """
from tnfd.store.presence import lock_daemon
fd = lock_daemon(Path(sys.argv[1]))
"""

# A worker with a job in hand and a request in flight.
WORK = """
import asyncio, os
from tests.stores import ask
from tnfd.clock import SystemClock
from tnfd.store.ledger import Budget
from tnfd.store.sqlite import SqliteStore

async def main():
    store = SqliteStore(
        Path(sys.argv[1]), SystemClock(), owner="batch-1", pid=os.getpid(), kind="batch", budget=Budget()
    )
    await store.__aenter__()
    (job,) = await store.ready(("inbox:/in",), limit=1, without=())
    await store.begin(job)
    await store.reserve(ask(usd=0.5))
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process that runs some code, says that it is ready, and stays."""
    processes: list[Popen[str]] = []

    def begin(code: str) -> Popen[str]:
        ready = "" if "print" in code else 'print("ready", flush=True)\nsys.stdin.read()\n'
        whole = f"import sys\nfrom pathlib import Path\n{code}\n{ready}"
        process = Popen([sys.executable, "-c", whole, str(tmp_path)], stdin=PIPE, stdout=PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate(timeout=20)


def kill(process: Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL


def lock_files(folder: Path) -> list[str]:
    return sorted(entry.name for entry in (folder / "locks").iterdir())


def test_process_lives_until_it_is_killed(tmp_path: Path, start: Start) -> None:
    process = start(ANNOUNCE)
    presence = Presence(tmp_path)
    assert presence.lives("daemon-1")
    assert presence.lives("daemon-1")  # looking does not disturb
    assert stat.S_IMODE((tmp_path / "locks").stat().st_mode) == 0o700
    kill(process)
    assert lock_files(tmp_path) == ["daemon-1.lock"]
    assert not presence.lives("daemon-1")
    assert lock_files(tmp_path) == []
    assert not presence.lives("daemon-1")
    assert not presence.lives("never-1")


def test_stopped_process_lives(tmp_path: Path, start: Start) -> None:
    # A suspended laptop, a debugger: no time-out may take it for dead.
    process = start(ANNOUNCE)
    process.send_signal(signal.SIGSTOP)
    assert Presence(tmp_path).lives("daemon-1")


def test_child_of_a_killed_process_does_not_keep_it_alive(tmp_path: Path, start: Start) -> None:
    after = "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\nprint(child.pid, flush=True)"
    code = f"{ANNOUNCE}\nprint('ready', flush=True)\n{after}\nsys.stdin.read()"
    process = start(code)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        kill(process)
        os.kill(child, 0)  # it is still there
        assert not Presence(tmp_path).lives("daemon-1")
    finally:
        os.kill(child, signal.SIGKILL)


def test_leaving_lets_go(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    presence.announce("daemon-1")
    assert presence.lives("daemon-1")
    presence.leave()
    assert not presence.lives("daemon-1")


def test_one_daemon_a_state_folder(tmp_path: Path, start: Start) -> None:
    assert daemon_pid(tmp_path) is None
    process = start(DAEMON)
    assert daemon_pid(tmp_path) == process.pid
    with pytest.raises(AlreadyRunning, match=f"process {process.pid} already runs") as caught:
        lock_daemon(tmp_path)
    assert caught.value.pid == process.pid
    kill(process)
    assert daemon_pid(tmp_path) is None
    fd = lock_daemon(tmp_path)
    assert daemon_pid(tmp_path) == os.getpid()
    os.close(fd)


def test_looking_who_runs_does_not_keep_a_daemon_from_starting(tmp_path: Path) -> None:
    os.close(lock_daemon(tmp_path))
    look = "import sys\nfrom pathlib import Path\nfrom tnfd.store.presence import daemon_pid\n"
    look += "while True: daemon_pid(Path(sys.argv[1]))"
    lookers = [subprocess.Popen([sys.executable, "-c", look, str(tmp_path)]) for _ in range(2)]
    try:
        for _ in range(300):
            os.close(lock_daemon(tmp_path))
    finally:
        for looker in lookers:
            looker.kill()
            looker.wait(20)


async def test_locks_of_which_the_database_knows_nothing_go(tmp_path: Path, start: Start) -> None:
    # Killed between the lock and the row of its process.
    kill(start(ANNOUNCE))
    assert lock_files(tmp_path) == ["daemon-1.lock"]
    start(ANNOUNCE.replace("daemon-1", "daemon-2"))
    stores = Stores(Sqlite(), tmp_path)
    await stores.open("daemon-3")
    assert lock_files(tmp_path) == ["daemon-2.lock", "daemon-3.lock"]
    await stores.close_all()


def test_a_lock_is_never_swept_from_under_a_process(tmp_path: Path) -> None:
    sweep = "import sys\nfrom pathlib import Path\nfrom tnfd.store.presence import Presence\n"
    sweep += "while True: Presence(Path(sys.argv[1])).sweep()"
    sweepers = [subprocess.Popen([sys.executable, "-c", sweep, str(tmp_path)]) for _ in range(2)]
    presence = Presence(tmp_path)
    try:
        for number in range(1000):
            presence.announce(f"batch-{number}")
            assert presence.lives(f"batch-{number}")
            presence.leave()
    finally:
        for sweeper in sweepers:
            sweeper.kill()
            sweeper.wait(20)


async def test_what_a_killed_process_held_is_given_back(tmp_path: Path, start: Start) -> None:
    stores = Stores(Sqlite(), tmp_path)
    store = await stores.open("daemon-1")
    job_id = await claim(stores, store)
    process = start(WORK)
    assert (await the_job(store, job_id)).state is JobState.RUNNING
    assert await store.bury_dead() == []
    kill(process)
    assert await store.bury_dead() == [job_id]
    assert await ready(store, SCOPES) == [job_id]
    # Booked on the day of the real clock, on which it was sent.
    stores.clock.jump_wall((SystemClock().now() - stores.now).total_seconds())
    assert await store.spent() == Spent(0.5, 0.5)
    assert [engine.in_flight for engine in await store.engines()] == [0]
    assert lock_files(tmp_path) == ["daemon-1.lock"]
    await stores.close_all()
    assert lock_files(tmp_path) == []
