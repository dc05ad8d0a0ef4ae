"""A model that is fetched once: with progress, resumed, by one of two, never without leave."""

from __future__ import annotations

import asyncio
import time
import wave
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.integration.hub import Hub, hub
from tests.whisper_model import build_model
from tnfd.engines.whisper import WhisperEngine, WhisperOptions
from tnfd.errors import Fate, Fault
from tnfd.ports.engine import EngineChunk, Hints

pytestmark = pytest.mark.skipif(find_spec("faster_whisper") is None, reason="faster-whisper is not installed")

SPOKEN = Path(__file__).parent.parent / "data" / "spoken_en.wav"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("whisper") / "many")


@pytest.fixture
def served(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub(model) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def chunk(tmp_path: Path) -> EngineChunk:
    path = tmp_path / "cut.pcm"
    with wave.open(str(SPOKEN)) as spoken:
        path.write_bytes(spoken.readframes(spoken.getnframes()))
    return EngineChunk(path, "pcm", path.stat().st_size / 32_000, path.stat().st_size)


Make = Callable[..., WhisperEngine]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(*, download: bool = True, local_only: bool = False) -> WhisperEngine:
        options = WhisperOptions(
            tmp_path / "models",
            {"HOME": str(tmp_path)},
            device="cpu",
            download=download,
            local_only=local_only,
        )
        return WhisperEngine("local", "tiny", options)

    return build


def folders(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "models").iterdir() if path.is_dir())


@pytest.mark.parametrize("local_only", [False, True])
async def test_the_model_is_fetched_once(
    served: Hub, make: Make, chunk: EngineChunk, tmp_path: Path, local_only: bool
) -> None:
    async with make(local_only=local_only) as engine:
        await engine.warm()  # fetches nothing: that is for a request to do
        assert served.asked == []
        assert (await engine.transcribe(chunk, Hints())).text
        asked = len(served.asked)
        assert asked > 0
        assert (await engine.transcribe(chunk, Hints())).text
    assert folders(tmp_path) == ["Systran--faster-whisper-tiny"]
    async with make(download=False) as engine:
        assert (await engine.transcribe(chunk, Hints())).text
    assert len(served.asked) == asked


async def test_without_leave_nothing_is_asked_for(
    served: Hub, make: Make, chunk: EngineChunk, tmp_path: Path
) -> None:
    async with make(download=False) as engine:
        with pytest.raises(Fault) as caught:
            await engine.transcribe(chunk, Hints())
    assert (caught.value.code, caught.value.fate) == ("engine.model_missing", Fate.ENGINE)
    assert "download = true" in caught.value.hint
    assert served.asked == []


async def test_how_far_it_is_can_be_seen_and_a_cancelled_download_goes_on(
    served: Hub, make: Make, chunk: EngineChunk, tmp_path: Path
) -> None:
    served.hold.clear()
    async with make() as engine:
        task = asyncio.create_task(engine.transcribe(chunk, Hints()))
        await asyncio.to_thread(served.half.wait, 60)
        while "downloading" not in engine.doing:  # noqa: ASYNC110  # its news are on the way
            await asyncio.sleep(0.05)
        assert " of 0 MB, " in engine.doing  # a tiny model
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.doing == ""
        assert folders(tmp_path) == ["Systran--faster-whisper-tiny.part"]
        served.hold.set()
        assert (await engine.transcribe(chunk, Hints())).text
    assert folders(tmp_path) == ["Systran--faster-whisper-tiny"]


async def test_two_that_want_the_same_model_fetch_it_once(
    served: Hub, make: Make, chunk: EngineChunk
) -> None:
    async with make() as one, make() as other, asyncio.TaskGroup() as group:
        tasks = [group.create_task(engine.transcribe(chunk, Hints())) for engine in (one, other, one)]
    assert len({task.result().text for task in tasks}) == 1
    assert len([asked for asked in served.asked if asked.startswith("GET") and "model.bin" in asked]) == 1


async def test_no_network_is_a_sentence_at_once(
    make: Make, chunk: EngineChunk, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    with hub(model) as gone:
        url = gone.url
    monkeypatch.setenv("HF_ENDPOINT", url)
    began = time.monotonic()
    async with make() as engine:
        with pytest.raises(Fault) as caught:
            await engine.transcribe(chunk, Hints())
    assert (caught.value.code, caught.value.fate) == ("engine.no_download", Fate.ENGINE)
    assert "Connection refused" in caught.value.detail
    assert "copy the model's folder here" in caught.value.hint
    assert time.monotonic() - began < 60  # the library alone would take its half minute more than once


async def test_local_only_refuses_to_fetch_from_elsewhere(
    make: Make, chunk: EngineChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://192.0.2.7:9")
    async with make(local_only=True) as engine:
        with pytest.raises(Fault) as caught:
            await engine.transcribe(chunk, Hints())
    assert (caught.value.code, caught.value.fate) == ("engine.not_local", Fate.ENGINE)
    assert "192.0.2.7" in caught.value.detail


async def test_a_repository_without_a_model(
    served: Hub, make: Make, chunk: EngineChunk, tmp_path: Path
) -> None:
    served.files = {"README.md": b"nothing"}
    async with make() as engine:
        with pytest.raises(Fault) as caught:
            await engine.transcribe(chunk, Hints())
    assert caught.value.code == "engine.no_download"
    assert "holds no model" in caught.value.detail
