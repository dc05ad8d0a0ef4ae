"""How the daemon says that it lives: a socket in its state folder that answers each caller with its status.

Nothing is written to disk for it, so an idle daemon lets disks sleep, and an answer is proof that the event
loop turns. Owns the socket file; knows nothing of what stands in the status.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

NAME = "daemon.sock"
_LONGEST_ANSWER_BYTES = 4 << 20


@contextlib.contextmanager
def _short(state_dir: Path) -> Iterator[str]:
    """Give a path of the socket that fits into the 104 to 108 bytes that an address may have."""
    path = str(state_dir / NAME)
    if len(os.fsencode(path)) < 100 or not sys.platform.startswith("linux"):
        yield path
        return
    fd = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{NAME}"
    finally:
        os.close(fd)


async def serve(state_dir: Path, answer: Callable[[], Awaitable[dict[str, Any]]]) -> None:
    """Answer every connection with one JSON object until cancelled. The caller holds the daemon's lock.

    Raises:
        OSError: the socket cannot be made.
    """
    import asyncio  # who only asks needs no event loop

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            try:
                writer.write(json.dumps(await answer(), ensure_ascii=True).encode() + b"\n")
                await writer.drain()
            finally:
                writer.close()
                await writer.wait_closed()

    with contextlib.suppress(FileNotFoundError):
        (state_dir / NAME).unlink()  # of a daemon that was killed; the lock says that it is gone
    with _short(state_dir) as path:
        server = await asyncio.start_unix_server(talk, path)
    (state_dir / NAME).chmod(0o600)
    try:
        async with server:
            await server.serve_forever()
    finally:
        with contextlib.suppress(FileNotFoundError):
            (state_dir / NAME).unlink()


def ask(state_dir: Path, *, timeout_s: float = 2.0) -> dict[str, Any] | None:
    """Ask the daemon for its status; None if none answers in time."""
    try:
        with _short(state_dir) as path, socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(timeout_s)
            caller.connect(path)
            data = b""
            while piece := caller.recv(1 << 16):
                data += piece
                if len(data) > _LONGEST_ANSWER_BYTES:
                    return None
        answer = json.loads(data)
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None
