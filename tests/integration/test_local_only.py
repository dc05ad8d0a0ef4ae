"""``local_only``: real sockets, names as the resolver of this machine gives them, nothing sent beyond."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tnfd.doctor.server import fetch
from tnfd.engines.openai import OpenAIEngine
from tnfd.errors import Fate, Fault
from tnfd.ports.engine import EngineChunk, Hints
from tnfd.rules.nearby import is_nearby, surely_elsewhere
from tnfd.testing.api_server import ApiServer
from tnfd.testing.samples import write_opus


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


@pytest.fixture
def chunk(tmp_path: Path) -> EngineChunk:
    return write_opus(tmp_path / "cut.ogg", seconds=3.0)


def names(monkeypatch: pytest.MonkeyPatch, **leading: list[str]) -> list[str]:
    """Make names of this machine's resolver lead somewhere, in turn; returns what was looked up."""
    real, asked = socket.getaddrinfo, []

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        known = leading.get(name.replace(".", "_"))
        if known is None:
            return real(host, port, *args, **kwargs)
        asked.append(name)
        address = known.pop(0) if len(known) > 1 else known[0]
        return real(address, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def port_of(server: ApiServer) -> str:
    return server.url.rpartition(":")[2]


async def fault_from(engine: OpenAIEngine, chunk: EngineChunk) -> Fault:
    async with engine:
        with pytest.raises(Fault) as caught:
            await engine.transcribe(chunk, Hints())
    return caught.value


async def test_a_server_on_this_machine_is_used(server: ApiServer, chunk: EngineChunk) -> None:
    urls = [server.url, server.url.replace("127.0.0.1", "localhost")]
    for url in urls:
        async with OpenAIEngine("it", "w", url, lambda: None, local_only=True) as engine:
            assert (await engine.transcribe(chunk, Hints())).text
    assert server.requests[1].headers["host"] == f"localhost:{port_of(server).partition('/')[0]}"


@pytest.mark.parametrize("host", ["192.0.2.7", "[2001:db8::7]", "0.0.0.0", "[::ffff:192.0.2.7]"])  # noqa: S104
async def test_a_public_address_is_refused_before_anything_is_sent(chunk: EngineChunk, host: str) -> None:
    engine = OpenAIEngine("it", "w", f"http://{host}:9/v1", lambda: None, local_only=True)
    fault = await fault_from(engine, chunk)
    assert (fault.code, fault.fate) == ("engine.not_local", Fate.ENGINE)


async def test_a_name_that_leads_beyond_is_refused(
    chunk: EngineChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, nas_lan=["192.0.2.7"])
    engine = OpenAIEngine("it", "w", "http://nas.lan:9/v1", lambda: None, local_only=True)
    fault = await fault_from(engine, chunk)
    assert fault.code == "engine.not_local"
    assert "nas.lan leads to 192.0.2.7" in fault.detail


async def test_what_is_connected_to_is_the_address_that_was_checked(
    server: ApiServer, chunk: EngineChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name that leads here when it is asked for once, and elsewhere ever after.
    asked = names(monkeypatch, nas_lan=["127.0.0.1", "192.0.2.7"])
    url = server.url.replace("127.0.0.1", "nas.lan")
    async with OpenAIEngine("it", "w", url, lambda: None, local_only=True) as engine:
        assert (await engine.transcribe(chunk, Hints())).text
        assert asked == ["nas.lan"]
        with pytest.raises(Fault) as caught:
            await engine.transcribe(chunk, Hints())
    assert caught.value.code == "engine.not_local"
    assert len(server.requests) == 1


async def test_a_proxy_is_no_way_around(
    server: ApiServer, chunk: EngineChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, server.url.removesuffix("/v1"))
    engine = OpenAIEngine("it", "w", "http://192.0.2.7:9/v1", lambda: None, local_only=True)
    assert (await fault_from(engine, chunk)).code == "engine.not_local"
    assert fetch("http://192.0.2.7:9/v1/models", None, 5.0, True).reason.startswith("local_only")
    assert server.requests == []


async def test_the_doctor_asks_no_public_server(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{server.url}/models"
    reply = await asyncio.to_thread(fetch, url, None, 5.0, True)
    assert reply.status == 200
    names(monkeypatch, nas_lan=["192.0.2.7"])
    reply = await asyncio.to_thread(fetch, url.replace("127.0.0.1", "nas.lan"), None, 5.0, True)
    assert (reply.status, reply.reason) == (0, "local_only: nas.lan leads to 192.0.2.7")


@pytest.mark.parametrize(
    ("address", "nearby"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("10.1.2.3", True), ("172.16.0.1", True),
        ("172.32.0.1", False), ("192.168.1.1", True), ("169.254.1.1", True), ("100.64.0.1", False),
        ("8.8.8.8", False),
        ("0.0.0.0", False),  # noqa: S104
        ("::1", True), ("fe80::1%eth0", True), ("fd00::1", True), ("::ffff:10.0.0.1", True),
        ("::ffff:8.8.8.8", False), ("2001:db8::1", False), ("nas.lan", False),
    ],
)  # fmt: skip
def test_addresses(address: str, nearby: bool) -> None:
    assert is_nearby(address) is nearby


@pytest.mark.parametrize(
    ("host", "elsewhere"),
    [
        ("api.openai.com", True),
        ("openai.com.", True),
        ("myopenai.com", False),
        ("8.8.8.8", True),
        ("nas", False),
    ],
)
def test_names(host: str, elsewhere: bool) -> None:
    assert surely_elsewhere(host) is elsewhere
