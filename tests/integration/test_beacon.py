"""The daemon's answer to whoever asks, over a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import eventually
from tnfd import beacon

Answer = Callable[[], Awaitable[dict[str, Any]]]


async def alive() -> dict[str, Any]:
    return {"pid": 17, "inboxes": ["Ünïcode 🎤"]}


@asynccontextmanager
async def shining(state_dir: Path, answer: Answer = alive) -> AsyncIterator[None]:
    task = asyncio.create_task(beacon.serve(state_dir, answer))
    await eventually(lambda: task.done() or _mode(state_dir) == 0o600)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()


def _mode(state_dir: Path) -> int | None:
    try:
        return stat.S_IMODE((state_dir / beacon.NAME).stat().st_mode)
    except FileNotFoundError:
        return None


async def ask(state_dir: Path, timeout_s: float = 5.0) -> dict[str, Any] | None:
    return await asyncio.to_thread(lambda: beacon.ask(state_dir, timeout_s=timeout_s))


@pytest.fixture(params=[0, 150, 3000], ids=["short", "long", "very long"])
def state_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Addresses have at most 107 bytes (unix(7)); people's folders more."""
    folder = tmp_path
    for number in range(request.param // 200 + (request.param > 0)):
        folder = folder / f"{number}{'x' * 149}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def test_answer_arrives(state_dir: Path) -> None:
    async with shining(state_dir):
        assert await ask(state_dir) == await alive()
        assert await ask(state_dir) == await alive()
    assert _mode(state_dir) is None
    assert await ask(state_dir) is None


async def test_socket_of_a_killed_daemon_answers_nothing_and_is_replaced(state_dir: Path) -> None:
    with beacon._short(state_dir) as path, socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    assert await ask(state_dir) is None
    async with shining(state_dir):
        assert await ask(state_dir) == await alive()


async def test_nobody_there(tmp_path: Path) -> None:
    assert await ask(tmp_path) is None
    assert await ask(tmp_path / "none") is None
    (tmp_path / beacon.NAME).write_text("not a socket")
    assert await ask(tmp_path) is None


async def test_only_the_owner_may_ask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with shining(tmp_path):
            assert _mode(tmp_path) == 0o600
    finally:
        os.umask(before)


async def test_many_ask_at_once_and_each_gets_a_whole_answer(tmp_path: Path) -> None:
    long = {"inboxes": ["x" * 1000] * 2000}

    async def answer() -> dict[str, Any]:
        return long

    async with shining(tmp_path, answer), asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(tmp_path)) for _ in range(10)]
    assert [task.result() for task in tasks] == [long] * 10


async def test_caller_that_says_nothing_or_leaves_holds_nobody_up(tmp_path: Path) -> None:
    async with shining(tmp_path):
        with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as leaving:
            for caller in (silent, leaving):
                await asyncio.to_thread(caller.connect, str(tmp_path / beacon.NAME))
            leaving.close()
            assert await ask(tmp_path) == await alive()


async def test_caller_that_does_not_read_does_not_stop_the_daemon(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def answer() -> dict[str, Any]:
        asked.set()
        return {"x": "y" * (1 << 22)}

    with socket.socket(socket.AF_UNIX) as stuck:
        async with asyncio.timeout(20), shining(tmp_path, answer):
            await asyncio.to_thread(stuck.connect, str(tmp_path / beacon.NAME))
            await asked.wait()


async def test_daemon_that_hangs_does_not_hold_the_caller_up(tmp_path: Path) -> None:
    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async with shining(tmp_path, never):
        assert await ask(tmp_path, 0.1) is None


@pytest.mark.parametrize("said", [b"", b"{", b"[1]\n", b"\xff\xfe", b"{" * (5 << 20)], ids=len)
async def test_nonsense_is_no_answer(tmp_path: Path, said: bytes) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    server = await asyncio.start_unix_server(talk, tmp_path / beacon.NAME)
    async with server:
        assert await ask(tmp_path) is None
