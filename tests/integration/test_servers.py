"""The engine against every kind of server that speaks the API: recognised, asked rightly, understood."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tnfd.engines.openai import OpenAIEngine
from tnfd.engines.profiles import Profile, profile_for
from tnfd.errors import Fault
from tnfd.model import ChunkResult
from tnfd.ports.engine import EngineChunk, Hints
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import Raw
from tnfd.testing.quirks import QUIRKS, play
from tnfd.testing.samples import write_opus

ADDRESSES = {
    "groq": "https://api.groq.com/openai/v1",
    "azure": "https://somebody.openai.azure.com/openai/v1",
    "mistral": "https://api.mistral.ai/v1",
}
TIMES = Hints(want_times=True)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


@pytest.fixture
def chunk(tmp_path: Path) -> EngineChunk:
    return write_opus(tmp_path / "cut.ogg", seconds=6.0)


def engine_for(server: ApiServer, name: str, model: str = "w") -> OpenAIEngine:
    """Companies are known by their address, which a test cannot have: what it tells is given instead."""
    profile: Profile | None = profile_for(model, ADDRESSES[name]) if name in ADDRESSES else None
    return OpenAIEngine("it", model, server.url, lambda: None, profile=profile)


async def ask(engine: OpenAIEngine, chunk: EngineChunk, hints: Hints) -> ChunkResult:
    """As the pipeline does: again at once where the engine has learned something."""
    for _ in range(8):
        try:
            return await engine.transcribe(chunk, hints)
        except Fault as fault:
            if fault.code != "engine.adjusted":
                raise
    raise AssertionError("it never stops learning")


@pytest.mark.parametrize(
    ("name", "segments", "words", "most"),
    [
        ("speaches", True, True, 1),
        ("whisper.cpp", True, True, 1),
        ("localai", True, True, 1),
        ("vllm", True, False, 1),
        ("groq", True, True, 1),
        ("azure", False, False, 2),
        ("mistral", True, False, 1),
        ("unknown", False, False, 5),
    ],
)
async def test_each_server_gives_what_it_can_within_few_requests(
    server: ApiServer, chunk: EngineChunk, name: str, segments: bool, words: bool, most: int
) -> None:
    play(server, name)
    async with engine_for(server, name, "my-deployment" if name == "azure" else "w") as engine:
        await engine.warm()
        result = await ask(engine, chunk, TIMES)
        again = await ask(engine, chunk, TIMES)
    assert result.text == again.text == "words of it"
    assert bool(result.segments) is segments
    assert any(segment.words for segment in result.segments) is words
    assert len(server.requests) <= most + 1  # what was learned is remembered


@pytest.mark.parametrize("name", QUIRKS)
async def test_each_server_takes_every_hint_or_the_engine_leaves_it_out(
    server: ApiServer, chunk: EngineChunk, name: str
) -> None:
    play(server, name)
    hints = Hints(("de",), "A talk.", ("tnfd",), want_times=True)
    async with engine_for(server, name, "my-deployment" if name == "azure" else "w") as engine:
        await engine.warm()
        assert (await ask(engine, chunk, hints)).text == "words of it"


async def test_whisper_cpp_is_asked_to_detect_from_the_first_request_on(
    server: ApiServer, chunk: EngineChunk
) -> None:
    play(server, "whisper.cpp")
    async with engine_for(server, "whisper.cpp") as engine:
        await engine.warm()
        assert (await engine.transcribe(chunk, TIMES)).languages == ("de",)
        assert engine.capabilities.max_concurrency == 1
    assert [request.fields["language"] for request in server.requests] == [["auto"]]


async def test_whisper_cpp_that_loads_its_model_is_waited_for(server: ApiServer, chunk: EngineChunk) -> None:
    play(server, "whisper.cpp")
    server.script(Raw(b'{"status": "loading model"}', status=503, paid=False))
    async with engine_for(server, "whisper.cpp") as engine:
        await engine.warm()
        with pytest.raises(Fault) as caught:
            await engine.transcribe(chunk, TIMES)
    assert caught.value.code == "engine.rate_limited"  # never counted against the file


async def test_vllm_gets_short_pieces(server: ApiServer, tmp_path: Path) -> None:
    play(server, "vllm")
    async with engine_for(server, "vllm") as engine:
        await engine.warm()
        assert engine.capabilities.max_s == 29.0
        with pytest.raises(Fault) as caught:
            await engine.transcribe(write_opus(tmp_path / "long.ogg", seconds=60.0), TIMES)
    assert (caught.value.code, caught.value.limit_s) == ("engine.too_large", 29.0)
    assert server.requests == []


async def test_localai_gets_small_pieces(server: ApiServer) -> None:
    play(server, "localai")
    async with engine_for(server, "localai") as engine:
        assert engine.capabilities.max_bytes > 15 * 1024 * 1024
        await engine.warm()
        assert engine.capabilities.max_bytes < 15 * 1024 * 1024


async def test_a_deployment_that_is_not_there_pauses_the_engine(
    server: ApiServer, chunk: EngineChunk
) -> None:
    play(server, "azure")
    async with engine_for(server, "azure", "other") as engine:
        with pytest.raises(Fault) as caught:
            await engine.transcribe(chunk, Hints())
    assert caught.value.code == "engine.no_model"


async def test_a_number_that_was_set_is_not_changed_by_what_a_server_is(server: ApiServer) -> None:
    play(server, "vllm")
    async with OpenAIEngine("it", "w", server.url, lambda: None, max_concurrency=3) as engine:
        await engine.warm()
        assert engine.capabilities.max_concurrency == 3


async def test_a_server_that_is_away_is_recognised_by_nothing(chunk: EngineChunk) -> None:
    async with ApiServer() as gone:
        url = gone.url
    async with OpenAIEngine("it", "w", url, lambda: None) as engine:
        await engine.warm()
        with pytest.raises(Fault) as caught:
            await engine.transcribe(chunk, Hints())
    assert caught.value.code == "engine.unreachable"
