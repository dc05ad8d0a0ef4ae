"""As much HTTP/1.1 as the test server needs, on asyncio streams: request heads, bodies, answers, resets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

_BLOCK_BYTES = 64 * 1024


class BadRequest(ValueError):
    """Not HTTP as this module knows it."""


@dataclass(frozen=True, slots=True)
class Head:
    """Request line and headers; names in lower case."""

    method: str
    path: str
    headers: dict[str, str]


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read the next request's head; None once the client has hung up.

    Raises:
        BadRequest: it is no HTTP.
    """
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest("the head is too long") from error
    first, *lines = raw.decode("latin-1").split("\r\n")
    try:
        method, path, _ = first.split(" ", 2)
    except ValueError as error:
        raise BadRequest("no request line") from error
    pairs = (line.partition(":") for line in lines if line)
    return Head(method, path, {name.strip().lower(): value.strip() for name, _, value in pairs})


async def read_body(reader: asyncio.StreamReader, head: Head) -> AsyncGenerator[bytes, None]:
    """Yield the body in blocks.

    Raises:
        asyncio.IncompleteReadError: the client hung up in the middle.
    """
    if "chunked" in head.headers.get("transfer-encoding", "").lower():
        while length := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield await reader.readexactly(length)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return
    left = int(head.headers.get("content-length", "0"))
    while left > 0:
        block = await reader.read(min(left, _BLOCK_BYTES))
        if not block:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(block)
        yield block


def head_of(status: int, headers: Mapping[str, str]) -> bytes:
    """Return an answer's head as bytes."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def answer(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    content_type: str,
    headers: Mapping[str, str],
    *,
    missing_bytes: int = 0,
) -> None:
    """Write a whole answer."""
    all_headers = {
        "content-type": content_type,
        "content-length": str(len(body) + missing_bytes),
        **headers,
    }
    writer.write(head_of(status, all_headers) + body)


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with a TCP reset instead of a farewell."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def until_hung_up(reader: asyncio.StreamReader) -> None:
    """Return once the client has closed its side."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(_BLOCK_BYTES):
            pass
