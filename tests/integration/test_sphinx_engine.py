"""pocketsphinx in its child process: speech, silence, crashes, ends."""

from __future__ import annotations

import asyncio
import io
import os
import random
import select
import signal
import sys
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from tnfd.engines.sphinx import SphinxEngine
from tnfd.engines.sphinx_child import quietest, utterances
from tnfd.errors import Fate, Fault
from tnfd.ports.engine import EngineChunk, Hints

pytestmark = pytest.mark.skipif(find_spec("pocketsphinx") is None, reason="pocketsphinx is not installed")

SPOKEN = Path(__file__).parent.parent / "data" / "spoken_en.wav"


@pytest.fixture
def speech() -> bytes:
    with wave.open(str(SPOKEN)) as spoken:
        return bytes(spoken.readframes(spoken.getnframes()))


@pytest.fixture
def cut(tmp_path: Path) -> Callable[[bytes], EngineChunk]:
    def write(samples: bytes, name: str = "cut.pcm") -> EngineChunk:
        path = tmp_path / name
        path.write_bytes(samples)
        return EngineChunk(path, "pcm", len(samples) / 32_000, len(samples))

    return write


Cutter = Callable[..., EngineChunk]


async def until_gone(pid: int) -> None:
    """Return once the process has ended; fails after 10 s."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = await asyncio.to_thread(select.select, [handle], [], [], 10)
    finally:
        os.close(handle)
    assert ended


def read(path: str) -> bytes:
    return Path(path).read_bytes()


@asynccontextmanager
async def stuck(engine: SphinxEngine, folder: Path) -> AsyncIterator[tuple[asyncio.Task[object], int]]:
    """A request that the child is busy with for good: it reads from a pipe that nothing is written to."""
    pipe = folder / "pipe.pcm"
    os.mkfifo(pipe)
    task: asyncio.Task[object] = asyncio.create_task(
        engine.transcribe(EngineChunk(pipe, "pcm", 3.0, 96_000), Hints())
    )
    # Opening it for writing waits until the child has opened it for reading.
    writer = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)
    try:
        assert engine.child_pid is not None
        yield task, engine.child_pid
    finally:
        os.close(writer)
        task.cancel()
        await asyncio.wait([task])


async def test_speech_becomes_words_with_times(speech: bytes, cut: Cutter) -> None:
    async with SphinxEngine() as engine:
        result = await engine.transcribe(cut(speech), Hints())
    assert "the light is on" in result.text
    assert not set(result.text) & set("<>[]()+0123456789")
    assert result.languages == ("en",)
    assert result.timestamps == "engine"
    words = [word for segment in result.segments for word in segment.words or ()]
    assert " ".join(word.text for word in words) == result.text
    assert all(before.end_s <= after.start_s + 0.02 for before, after in pairwise(words))
    assert words[0].start_s < 1.0
    assert words[-1].end_s > 2.0


async def test_the_last_word_is_kept_where_the_audio_ends_with_it(speech: bytes, cut: Cutter) -> None:
    async with SphinxEngine() as engine:
        whole = await engine.transcribe(cut(speech), Hints())
        end_s = whole.segments[-1].end_s
        frames = round(end_s * 16_000) // 480  # the endpointer's own end drops the last utterance here
        exact = await engine.transcribe(cut(speech[: frames * 960]), Hints())
        odd = await engine.transcribe(cut(speech[: frames * 960 - 301]), Hints())
    assert whole.text.endswith("the light is on")
    assert exact.text.endswith("the light is on")
    assert odd.text.endswith("the light is on")


async def test_times_count_from_the_start_of_the_cut(speech: bytes, cut: Cutter) -> None:
    async with SphinxEngine() as engine:
        early = await engine.transcribe(cut(speech), Hints())
        late = await engine.transcribe(cut(bytes(5 * 32_000) + speech), Hints())
    shift = late.segments[0].start_s - early.segments[0].start_s
    assert shift == pytest.approx(5.0, abs=0.2)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.1, 3.0])
async def test_silence_is_no_speech(cut: Cutter, seconds: float) -> None:
    async with SphinxEngine() as engine:
        result = await engine.transcribe(cut(bytes(round(seconds * 16_000) * 2)), Hints())
    assert (result.text, result.segments, result.timestamps) == ("", (), "none")
    assert result.flags == ("no_speech",)


async def test_an_odd_number_of_bytes_is_taken(speech: bytes, cut: Cutter) -> None:
    async with SphinxEngine() as engine:
        assert (await engine.transcribe(cut(speech[:-1]), Hints())).text


def test_endless_noise_is_cut_without_losing_any() -> None:
    noise = random.Random(7).randbytes(95 * 32_000)
    pieces = list(utterances(io.BytesIO(noise)))
    assert len(pieces) >= 4
    assert all(len(samples) <= 30.1 * 32_000 for _, samples in pieces)
    for (start_s, samples), (next_s, _) in pairwise(pieces):
        assert start_s + len(samples) / 32_000 == pytest.approx(next_s, abs=0.001)
    assert b"".join(samples for _, samples in pieces)[: len(noise)] in noise + bytes(64_000)


def test_the_cut_falls_where_it_is_quiet() -> None:
    loud = b"\x00\x40" * 16_000
    speech = loud * 25 + bytes(16_000) + loud * 4  # half a second of silence after 25 s
    at = quietest(speech, 20 * 32_000) / 32_000
    assert 25.0 < at < 25.5
    assert quietest(loud[:100], 0) == 100


async def test_names_that_are_not_utf8(speech: bytes, cut: Cutter) -> None:
    async with SphinxEngine() as engine:
        assert (await engine.transcribe(cut(speech, os.fsdecode(b"\xff\xfe.pcm")), Hints())).text


# -- languages and installation -------------------------------------------------------------------------


@pytest.mark.parametrize("languages", [("de",), ("fr", "es")])
async def test_other_languages_are_refused(cut: Cutter, languages: tuple[str, ...]) -> None:
    async with SphinxEngine() as engine:
        with pytest.raises(Fault) as caught:
            await engine.transcribe(cut(b""), Hints(languages=languages))
        assert engine.child_pid is None
    assert caught.value.code == "engine.language"
    assert caught.value.fate is Fate.FILE


@pytest.mark.parametrize("languages", [(), ("en",), ("en-US",), ("de", "en")])
async def test_english_among_the_languages_is_enough(cut: Cutter, languages: tuple[str, ...]) -> None:
    async with SphinxEngine() as engine:
        await engine.transcribe(cut(b""), Hints(languages=languages))


async def test_a_missing_library_is_named_with_its_cure(cut: Cutter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)  # what Python itself does for "not importable"
    async with SphinxEngine() as engine:
        with pytest.raises(Fault) as caught:
            await engine.transcribe(cut(b""), Hints())
    assert caught.value.code == "engine.not_installed"
    assert sys.executable in caught.value.hint  # the environment that tnfd runs in, and no other
    assert " install pocketsphinx;" in caught.value.hint  # by its own name


# -- the child ------------------------------------------------------------------------------------------


async def test_one_child_serves_many_requests_and_ends_with_the_engine(speech: bytes, cut: Cutter) -> None:
    async with SphinxEngine() as engine:
        await engine.transcribe(cut(speech), Hints())
        first = engine.child_pid
        await engine.transcribe(cut(speech), Hints())
        assert engine.child_pid == first is not None
    assert engine.child_pid is None
    await until_gone(first)


async def test_a_killed_child_is_a_fault_and_the_next_request_gets_a_new_one(
    speech: bytes, cut: Cutter, tmp_path: Path
) -> None:
    async with SphinxEngine() as engine:
        async with stuck(engine, tmp_path) as (task, child):
            os.kill(child, signal.SIGKILL)
            with pytest.raises(Fault, match="signal 9") as caught:
                await task
        assert caught.value.code == "engine.crashed"
        assert (await engine.transcribe(cut(speech), Hints())).text
        assert engine.child_pid != child


async def test_what_a_dying_child_said_is_in_the_fault(
    cut: Cutter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pocketsphinx.py").write_text("raise SystemError('the model is gone')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with SphinxEngine() as engine:
        with pytest.raises(Fault, match="exit 1: SystemError: the model is gone") as caught:
            await engine.transcribe(cut(b""), Hints())
    assert caught.value.code == "engine.crashed"


async def test_an_idle_child_ends_and_the_next_request_starts_another(speech: bytes, cut: Cutter) -> None:
    async with SphinxEngine(idle_s=0.1) as engine:
        await engine.transcribe(cut(speech), Hints())
        first = engine.child_pid
        if first is not None:
            await until_gone(first)
        assert (await engine.transcribe(cut(speech), Hints())).text


async def test_a_child_that_went_idle_just_now_is_no_fault(speech: bytes, cut: Cutter) -> None:
    # With no patience at all the child ends before each request arrives, or just as it does.
    async with SphinxEngine(idle_s=0.02) as engine:
        for _ in range(5):
            assert (await engine.transcribe(cut(bytes(3200)), Hints())).text == ""


async def test_cancelling_kills_the_child(tmp_path: Path) -> None:
    async with SphinxEngine() as engine, stuck(engine, tmp_path) as (task, child):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.child_pid is None
        await until_gone(child)


async def test_leaving_the_engine_ends_a_request_that_hangs(tmp_path: Path) -> None:
    async with SphinxEngine() as engine, stuck(engine, tmp_path) as (task, child):
        await engine.__aexit__(None, None, None)
        with pytest.raises(Fault):
            await task
        await until_gone(child)


async def test_cancelling_a_request_that_waits_leaves_the_other_alone(tmp_path: Path) -> None:
    async with SphinxEngine() as engine, stuck(engine, tmp_path) as (task, child):
        waiting = asyncio.create_task(engine.transcribe(EngineChunk(tmp_path, "pcm", 1.0, 1), Hints()))
        await asyncio.sleep(0)
        waiting.cancel()  # it waits for its turn: the child goes on with the other request
        await asyncio.wait([waiting])
        assert engine.child_pid == child
        assert not task.done()


async def test_a_request_that_takes_too_long_is_ended(cut: Cutter, tmp_path: Path) -> None:
    async with SphinxEngine(timeout_s=15.0) as engine:
        await engine.transcribe(cut(b""), Hints())  # a child that is still starting would not open the pipe
        async with stuck(engine, tmp_path) as (task, child):
            with pytest.raises(Fault) as caught:
                await task
            assert caught.value.code == "engine.timeout"
            assert engine.child_pid is None
            await until_gone(child)


async def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.pcm"
    os.mkfifo(pipe)
    script = f"""
import asyncio, pathlib
from tnfd.engines.sphinx import SphinxEngine
from tnfd.ports.engine import EngineChunk, Hints
async def main():
    pipe = pathlib.Path({str(pipe)!r})
    empty = pipe.with_name("empty")
    empty.write_bytes(b"")
    async with SphinxEngine() as engine:
        await engine.transcribe(EngineChunk(empty, "pcm", 0, 0), Hints())
        print(engine.child_pid, flush=True)
        await engine.transcribe(EngineChunk(pipe, "pcm", 3, 96000), Hints())
asyncio.run(main())
"""
    root = Path(__file__).parent.parent.parent
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, cwd=root
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    # Held open, the pipe keeps the child reading: nothing but the parent's death ends it.
    writer = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)
    parent.kill()
    await parent.wait()
    await until_gone(child)
    os.close(writer)


async def test_the_child_sees_little_of_the_environment(cut: Cutter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-children")
    async with SphinxEngine() as engine:
        await engine.transcribe(cut(b""), Hints())
        assert b"OPENAI" not in read(f"/proc/{engine.child_pid}/environ")
