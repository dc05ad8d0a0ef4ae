"""faster-whisper in its child process, with a tiny model of random weights: loading, times, faults, ends."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from tests.whisper_model import build_model
from tnfd.engines.whisper import WhisperEngine, WhisperOptions
from tnfd.engines.whisper_models import find_missing, installed_model
from tnfd.errors import Fate, Fault
from tnfd.ports.engine import EngineChunk, Hints

pytestmark = pytest.mark.skipif(find_spec("faster_whisper") is None, reason="faster-whisper is not installed")

SPOKEN = Path(__file__).parent.parent / "data" / "spoken_en.wav"
TIMES = Hints(want_times=True)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("whisper") / "many")


@pytest.fixture(scope="session")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("whisper") / "english", english=True)


@pytest.fixture
def speech() -> bytes:
    with wave.open(str(SPOKEN)) as spoken:
        return bytes(spoken.readframes(spoken.getnframes()))


Cutter = Callable[..., EngineChunk]


@pytest.fixture
def cut(tmp_path: Path) -> Cutter:
    def write(samples: bytes, name: str = "cut.pcm") -> EngineChunk:
        path = tmp_path / name
        path.write_bytes(samples)
        return EngineChunk(path, "pcm", len(samples) / 32_000, len(samples))

    return write


Make = Callable[..., WhisperEngine]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(model: Path | str, **options: object) -> WhisperEngine:
        environ = {"HOME": str(tmp_path / "home")}
        plain = WhisperOptions(tmp_path / "models", environ, device="cpu")
        return WhisperEngine("local", str(model), replace(plain, **options))  # type: ignore[arg-type]

    return build


def read(path: str) -> bytes:
    return Path(path).read_bytes()


@asynccontextmanager
async def stuck(engine: WhisperEngine, folder: Path) -> AsyncIterator[tuple[asyncio.Task[object], int]]:
    """A request that the child is busy with for good: it reads from a pipe that nothing is written to."""
    pipe = folder / "pipe.pcm"
    os.mkfifo(pipe)
    task: asyncio.Task[object] = asyncio.create_task(
        engine.transcribe(EngineChunk(pipe, "pcm", 3.0, 96_000), Hints())
    )
    writer = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)
    try:
        assert engine.child_pid is not None
        yield task, engine.child_pid
    finally:
        os.close(writer)
        task.cancel()
        await asyncio.wait([task])


async def fault_from(engine: WhisperEngine, chunk: EngineChunk, hints: Hints = TIMES) -> Fault:
    async with engine:
        with pytest.raises(Fault) as caught:
            await engine.transcribe(chunk, hints)
    return caught.value


# -- transcribing ---------------------------------------------------------------------------------------


async def test_speech_becomes_segments_and_words_with_times(
    model: Path, speech: bytes, cut: Cutter, make: Make
) -> None:
    async with make(model) as engine:
        result = await engine.transcribe(cut(speech), TIMES)
    assert result.timestamps == "engine"
    assert " ".join(segment.text for segment in result.segments) == result.text != ""
    words = [word for segment in result.segments for word in segment.words or ()]
    assert " ".join(word.text for word in words) == result.text
    assert all(before.start_s <= before.end_s <= after.end_s for before, after in pairwise(words))
    assert words[-1].end_s <= len(speech) / 32_000
    assert len(result.languages) == 1


async def test_words_cost_time_and_are_made_only_where_they_are_wanted(
    model: Path, speech: bytes, cut: Cutter, make: Make
) -> None:
    async with make(model) as engine:
        result = await engine.transcribe(cut(speech), Hints())
    assert result.segments
    assert all(segment.words is None for segment in result.segments)


async def test_the_same_audio_gives_the_same_text_in_another_process(
    model: Path, speech: bytes, cut: Cutter, make: Make
) -> None:
    texts = []
    for _ in range(2):
        async with make(model) as engine:
            texts.append((await engine.transcribe(cut(speech), TIMES)).text)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("seconds", [0.0, 0.05, 3.0])
async def test_silence_is_no_speech(model: Path, cut: Cutter, make: Make, seconds: float) -> None:
    async with make(model) as engine:
        result = await engine.transcribe(cut(bytes(round(seconds * 16_000) * 2)), TIMES)
    assert (result.text, result.segments, result.timestamps) == ("", (), "none")
    assert result.flags == ("no_speech",)


async def test_an_odd_number_of_bytes_and_a_name_that_is_not_utf8(
    model: Path, speech: bytes, cut: Cutter, make: Make
) -> None:
    async with make(model) as engine:
        result = await engine.transcribe(cut(speech[:-1], os.fsdecode(b"\xff\xfe.pcm")), Hints())
    assert result.text


@pytest.mark.parametrize(("languages", "heard"), [(("de",), "de"), (("pt-BR",), "pt"), (("xx", "fr"), "fr")])
async def test_a_language_is_passed_on(
    model: Path, speech: bytes, cut: Cutter, make: Make, languages: tuple[str, ...], heard: str
) -> None:
    async with make(model) as engine:
        result = await engine.transcribe(cut(speech), Hints(languages))
    assert result.languages == (heard,)


async def test_of_several_languages_one_of_them_is_chosen(
    model: Path, speech: bytes, cut: Cutter, make: Make
) -> None:
    async with make(model) as engine:
        free = await engine.transcribe(cut(speech), Hints())
        bound = [
            await engine.transcribe(cut(speech), Hints(languages))
            for languages in (("de", "fr"), ("fr", "de"), ("de", *free.languages))
        ]
    assert bound[0].languages == bound[1].languages
    assert bound[0].languages[0] in ("de", "fr")
    assert bound[2].languages == free.languages  # the likeliest of all is the likeliest of these


async def test_an_english_model_refuses_other_languages(
    english: Path, speech: bytes, cut: Cutter, make: Make
) -> None:
    fault = await fault_from(make(english), cut(speech), Hints(("de",)))
    assert (fault.code, fault.fate) == ("engine.language", Fate.FILE)
    assert "English alone" in fault.detail
    async with make(english) as engine:
        assert (await engine.transcribe(cut(speech), Hints(("de", "en")))).languages == ("en",)


async def test_prompt_and_keywords_reach_the_model(
    model: Path, speech: bytes, cut: Cutter, make: Make
) -> None:
    texts = []
    for hints in (
        Hints(("en",)),
        Hints(("en",), "ba de fi go ku"),
        Hints(("en",), "", ("ba de fi go ku",)),
        Hints(("en",), "ba " * 5000, ("ku",) * 500),
    ):
        async with make(model) as engine:  # each in a process of its own: its chances begin anew
            texts.append((await engine.transcribe(cut(speech), hints)).text)
    assert texts[0] != texts[1] == texts[2]
    assert texts[3]


# -- the model's folder ---------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [("model.bin",), ("tokenizer.json", "vocabulary.json"), ("config.json",)])
async def test_every_missing_file_is_named_before_anything_is_loaded(
    model: Path, cut: Cutter, make: Make, tmp_path: Path, lost: tuple[str, ...]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    for name in lost:
        (broken / name).unlink()
    engine = make(broken)
    fault = await fault_from(engine, cut(b""))
    assert (fault.code, fault.fate) == ("engine.model_broken", Fate.ENGINE)
    assert all(name in fault.detail and f"{name}: " in fault.hint for name in lost)
    assert engine.child_pid is None


@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json", "config.json", "vocabulary.json"])
async def test_a_damaged_file_is_a_broken_model(
    model: Path, speech: bytes, cut: Cutter, make: Make, tmp_path: Path, name: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / name).write_bytes((broken / name).read_bytes()[:100])
    fault = await fault_from(make(broken), cut(speech))
    assert (fault.code, fault.fate) == ("engine.model_broken", Fate.ENGINE)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/nowhere/model", "/nowhere/model is not there"),
        ("smal", "no model that tnfd knows"),
        ("small", "small; "),
    ],
)
async def test_a_model_that_is_not_there_is_a_sentence(
    cut: Cutter, make: Make, name: str, words: str
) -> None:
    engine = make(name)
    fault = await fault_from(engine, cut(b""))
    assert (fault.code, fault.fate) == ("engine.model_missing", Fate.ENGINE)
    assert words in fault.detail
    assert fault.hint
    assert engine.child_pid is None


async def test_a_model_of_the_shared_cache_is_found_by_its_name(
    model: Path, speech: bytes, cut: Cutter, make: Make, tmp_path: Path
) -> None:
    place = tmp_path / "home/.cache/huggingface/hub/models--Systran--faster-whisper-base"
    shutil.copytree(model, place / "snapshots" / "abc")
    (place / "refs").mkdir()
    (place / "refs/main").write_text("abc")
    async with make("base") as engine:
        assert (await engine.transcribe(cut(speech), Hints())).text
    assert installed_model(tmp_path / "models", {"HOME": str(tmp_path / "home")}) == "base"
    own = tmp_path / "models/Systran--faster-whisper-small"
    shutil.copytree(model, own)
    assert installed_model(tmp_path / "models", {"HOME": str(tmp_path / "home")}) == "small"
    (own / "model.bin").unlink()
    assert [one.name for one in find_missing(own)] == ["model.bin"]
    assert installed_model(tmp_path / "models", {"HOME": str(tmp_path / "home")}) == "base"


async def test_a_device_that_is_not_there(model: Path, cut: Cutter, make: Make) -> None:
    fault = await fault_from(make(model, device="cuda"), cut(b""))
    assert (fault.code, fault.fate) == ("engine.no_device", Fate.ENGINE)


async def test_a_compute_type_that_the_device_cannot_do(model: Path, cut: Cutter, make: Make) -> None:
    fault = await fault_from(make(model, compute_type="int8_float16"), cut(b""))
    assert (fault.code, fault.fate) == ("engine.no_device", Fate.ENGINE)


async def test_the_device_is_found(model: Path, speech: bytes, cut: Cutter, make: Make) -> None:
    async with make(model, device="auto") as engine:
        assert (await engine.transcribe(cut(speech), Hints())).text


async def test_a_missing_library_is_named_with_its_cure(
    model: Path, cut: Cutter, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)  # what Python does for "not importable"
    engine = make(model)
    with pytest.raises(Fault):
        await engine.warm()
    fault = await fault_from(engine, cut(b""))
    assert fault.code == "engine.not_installed"
    assert " install faster-whisper;" in fault.hint


# -- the child ------------------------------------------------------------------------------------------


async def test_warming_loads_the_model_and_the_request_finds_it(
    model: Path, speech: bytes, cut: Cutter, make: Make
) -> None:
    async with make(model) as engine:
        await engine.warm()
        child = engine.child_pid
        assert child is not None
        await engine.warm()
        await engine.transcribe(cut(speech), Hints())
        assert engine.child_pid == child


async def test_the_child_has_no_way_to_the_network_and_sees_no_key(
    model: Path, cut: Cutter, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-children")
    monkeypatch.setenv("HF_TOKEN", "hf_not_for_this_child")
    async with make(model) as engine:
        await engine.transcribe(cut(b""), Hints())
        environ = read(f"/proc/{engine.child_pid}/environ")
        limits = read(f"/proc/{engine.child_pid}/limits").decode()
    assert b"HF_HUB_OFFLINE=1" in environ
    assert b"not-for" not in environ
    assert b"not_for" not in environ
    assert "unlimited" not in next(line for line in limits.splitlines() if "address space" in line)


async def test_a_killed_child_is_a_fault_and_the_next_request_gets_a_new_one(
    model: Path, speech: bytes, cut: Cutter, make: Make, tmp_path: Path
) -> None:
    async with make(model) as engine:
        async with stuck(engine, tmp_path) as (task, child):
            os.kill(child, signal.SIGKILL)
            with pytest.raises(Fault, match="signal 9") as caught:
                await task
        assert caught.value.code == "engine.crashed"
        assert (await engine.transcribe(cut(speech), Hints())).text
        assert engine.child_pid != child


async def test_cancelling_ends_the_work(model: Path, make: Make, tmp_path: Path) -> None:
    async with make(model) as engine, stuck(engine, tmp_path) as (task, child):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.child_pid is None
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


async def test_leaving_the_engine_ends_a_request_that_hangs(model: Path, make: Make, tmp_path: Path) -> None:
    async with make(model) as engine, stuck(engine, tmp_path) as (task, _):
        await engine.__aexit__(None, None, None)
        with pytest.raises(Fault):
            await task


async def test_an_idle_child_ends_and_the_next_request_starts_another(
    model: Path, speech: bytes, cut: Cutter, make: Make
) -> None:
    async with make(model, idle_s=0.05) as engine:
        for _ in range(3):
            assert (await engine.transcribe(cut(speech), Hints())).text


async def test_only_one_request_is_worked_on(model: Path, make: Make) -> None:
    assert make(model).capabilities.max_concurrency == 1
    assert make(model).capabilities.uploads is False
    assert json.dumps(make(model).doing) == '""'
