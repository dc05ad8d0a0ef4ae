"""What every engine owes its callers. A new engine joins by adding a fixture to ENGINES."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.whisper_model import build_model
from tnfd.engines.openai import OpenAIEngine
from tnfd.engines.sphinx import SphinxEngine
from tnfd.engines.whisper import WhisperEngine, WhisperOptions
from tnfd.errors import Fault
from tnfd.ports.engine import Engine, EngineChunk, Hints
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import Hang
from tnfd.testing.samples import write_opus

SPOKEN = Path(__file__).parent.parent / "data" / "spoken_en.wav"


@dataclass
class Bench:
    """An engine under test, a cut that it takes, and a way to get it stuck."""

    engine: Engine
    chunk: EngineChunk
    loaded: Callable[[], bool]  # whether anything heavy has happened
    prepare_to_hang: Callable[[], EngineChunk]  # the request for this cut never ends
    hangs: Callable[[], Awaitable[object]]  # returns once it is stuck


def pcm_chunk(path: Path, samples: bytes) -> EngineChunk:
    path.write_bytes(samples)
    return EngineChunk(path, "pcm", len(samples) / 32_000, len(samples))


@asynccontextmanager
async def openai_bench(folder: Path) -> AsyncIterator[Bench]:
    async with ApiServer() as server:
        engine = OpenAIEngine("lan", "whisper", server.url, lambda: None)
        chunk = write_opus(folder / "cut.ogg", seconds=3.0)

        def prepare_to_hang() -> EngineChunk:
            server.script(Hang())
            return chunk

        yield Bench(
            engine,
            chunk,
            lambda: bool(server.requests),
            prepare_to_hang,
            lambda: server.until(
                lambda server: any(request.outcome == "hang" for request in server.requests)
            ),
        )


@asynccontextmanager
async def sphinx_bench(folder: Path) -> AsyncIterator[Bench]:
    if find_spec("pocketsphinx") is None:
        pytest.skip("pocketsphinx is not installed")
    with wave.open(str(SPOKEN)) as spoken:
        chunk = pcm_chunk(folder / "cut.pcm", spoken.readframes(spoken.getnframes()))
    engine = SphinxEngine()
    pipe = folder / "pipe.pcm"
    os.mkfifo(pipe)
    writers: list[int] = []

    async def hangs() -> None:
        # Opening a pipe for writing waits until somebody, here the child, has opened it for reading.
        writers.append(await asyncio.to_thread(os.open, pipe, os.O_WRONLY))

    yield Bench(
        engine,
        chunk,
        lambda: engine.child_pid is not None,
        lambda: EngineChunk(pipe, "pcm", 3.0, 96_000),
        hangs,
    )
    for writer in writers:
        os.close(writer)


@asynccontextmanager
async def whisper_bench(folder: Path) -> AsyncIterator[Bench]:
    if find_spec("faster_whisper") is None:
        pytest.skip("faster-whisper is not installed")
    with wave.open(str(SPOKEN)) as spoken:
        chunk = pcm_chunk(folder / "cut.pcm", spoken.readframes(spoken.getnframes()))
    model = await asyncio.to_thread(build_model, folder / "model")
    engine = WhisperEngine("local", str(model), WhisperOptions(folder, {}, device="cpu"))
    pipe = folder / "pipe.pcm"
    os.mkfifo(pipe)
    writers: list[int] = []

    async def hangs() -> None:
        writers.append(await asyncio.to_thread(os.open, pipe, os.O_WRONLY))

    yield Bench(
        engine,
        chunk,
        lambda: engine.child_pid is not None,
        lambda: EngineChunk(pipe, "pcm", 3.0, 96_000),
        hangs,
    )
    for writer in writers:
        os.close(writer)


ENGINES: dict[str, Callable[[Path], AbstractAsyncContextManager[Bench]]] = {
    "openai": openai_bench,
    "sphinx": sphinx_bench,
    "whisper": whisper_bench,
}


@pytest.fixture(params=ENGINES)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with ENGINES[request.param](tmp_path) as bench:
        yield bench


async def test_entering_loads_nothing(bench: Bench) -> None:
    async with bench.engine:
        assert not bench.loaded()


def test_importing_engines_is_light() -> None:
    heavy = "{'openai', 'httpx2', 'pydantic', 'pocketsphinx', 'numpy', 'av', 'faster_whisper', 'ctranslate2'}"
    engines = "tnfd.engines.openai, tnfd.engines.sphinx, tnfd.engines.whisper"
    script = f"import sys, {engines}; sys.exit(str({heavy} & set(sys.modules)))"
    root = Path(__file__).parent.parent.parent
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False
    )
    assert run.stderr.strip() == "set()"


async def test_capabilities_make_sense(bench: Bench) -> None:
    capabilities = bench.engine.capabilities
    assert capabilities.encoding == bench.chunk.encoding
    assert capabilities.max_bytes > 1_000_000
    assert capabilities.max_s >= 30
    assert capabilities.max_concurrency >= 1
    assert capabilities.usd_per_minute >= 0
    assert bench.engine.name
    assert bench.engine.type in ENGINES
    assert bench.engine.model


@pytest.mark.parametrize("want_times", [False, True])
async def test_a_cut_becomes_text(bench: Bench, want_times: bool) -> None:
    async with bench.engine as engine:
        result = await engine.transcribe(bench.chunk, Hints(languages=("en",), want_times=want_times))
    assert result.text == result.text.strip() != ""
    if want_times:
        assert result.timestamps == ("engine" if engine.capabilities.timestamps else "none")
    assert bool(result.segments) == (result.timestamps == "engine")
    last = 0.0
    for segment in result.segments:
        assert last <= segment.start_s <= segment.end_s <= bench.chunk.duration_s
        assert segment.text
        last = segment.start_s
        for word in segment.words or ():
            assert segment.start_s - 0.5 <= word.start_s <= word.end_s <= segment.end_s + 0.5


async def test_the_same_cut_gives_the_same_text_side_by_side(bench: Bench) -> None:
    async with bench.engine as engine, asyncio.TaskGroup() as group:
        first = group.create_task(engine.transcribe(bench.chunk, Hints()))
        second = group.create_task(engine.transcribe(bench.chunk, Hints()))
    assert first.result().text == second.result().text


async def test_the_wrong_encoding_is_a_bug_of_the_caller(bench: Bench) -> None:
    other = replace(bench.chunk, encoding="pcm" if bench.chunk.encoding == "opus" else "opus")
    async with bench.engine as engine:
        with pytest.raises(ValueError, match="takes"):
            await engine.transcribe(other, Hints())


async def test_a_missing_cut_is_a_fault_and_the_engine_goes_on(bench: Bench) -> None:
    gone = replace(bench.chunk, path=bench.chunk.path.with_name("gone"))
    async with bench.engine as engine:
        with pytest.raises(Fault):
            await engine.transcribe(gone, Hints())
        assert (await engine.transcribe(bench.chunk, Hints())).text


async def test_a_cancelled_request_leaves_the_engine_usable(bench: Bench) -> None:
    async with bench.engine as engine:
        task = asyncio.create_task(engine.transcribe(bench.prepare_to_hang(), Hints()))
        await bench.hangs()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await engine.transcribe(bench.chunk, Hints())).text


async def test_closing_twice_is_harmless(bench: Bench) -> None:
    async with bench.engine as engine:
        await engine.transcribe(bench.chunk, Hints())
    await bench.engine.__aexit__(None, None, None)
