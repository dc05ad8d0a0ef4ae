"""The test server itself, spoken to over plain sockets and with the real SDK."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tnfd.testing import FakeClock, behaviours
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import Flood, Hang, Ok, Raw, Reset, Status, from_json, redirect
from tnfd.testing.records import Load
from tnfd.testing.samples import write_opus
from tnfd.testing.upload import BadUpload, Upload, audio_seconds

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


@pytest.fixture
async def sdk(server: ApiServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url, api_key="sk-test", max_retries=0, timeout=5) as client:
        yield client


async def ask(
    server: ApiServer, method: str, path: str, body: bytes = b"", headers: str = ""
) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    port = int(server.url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    writer.write(head.encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(answer.lower().split("content-length:")[1].split()[0])
    content = await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1]), content


# -- uploads --------------------------------------------------------------------------------------------


def form(file: bytes, **fields: str) -> bytes:
    parts = [
        f'--B\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode()
        for k, v in fields.items()
    ]
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.ogg"\r\n'
    head += b"Content-Type: audio/ogg\r\n\r\n"
    return b"".join(parts) + head + file + b"\r\n--B--\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50, 100_000])
@pytest.mark.parametrize("file", [b"", b"abc", b"\r\n--", b"\r\n--A\r\n--" * 9, b"\r\n" * 40])
def test_uploads_are_read_in_any_pieces(step: int, file: bytes) -> None:
    upload = Upload('multipart/form-data; boundary="B"')
    body = form(file, model="m", prompt="two\r\nlines")
    for at in range(0, len(body), step):
        upload.feed(body[at : at + step])
    upload.finish()
    assert upload.sha256 == hashlib.sha256(file).hexdigest()
    assert upload.file_bytes == len(file)
    assert (upload.file_name, upload.file_type) == ("a.ogg", "audio/ogg")
    assert upload.fields == {"model": ["m"], "prompt": ["two\r\nlines"]}


def test_broken_forms_are_refused() -> None:
    with pytest.raises(BadUpload):
        Upload("application/json")
    with pytest.raises(BadUpload):
        Upload("multipart/form-data; boundary=B").feed(b"no boundary here")
    cut_off = Upload("multipart/form-data; boundary=B")
    cut_off.feed(form(b"abc")[:-6])
    with pytest.raises(BadUpload):
        cut_off.finish()


@pytest.mark.parametrize("seconds", [0.1, 2.0, 3600.0])
def test_seconds_of_a_made_up_opus_file(tmp_path: Path, seconds: float) -> None:
    chunk = write_opus(tmp_path / "a.ogg", seconds=seconds, size_bytes=300_000)
    raw = chunk.path.read_bytes()
    assert len(raw) == pytest.approx(300_000, rel=0.01)
    assert audio_seconds(raw[:4096], raw[-131072:], len(raw)) == pytest.approx(seconds)


def test_seconds_of_a_real_opus_file(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "real.ogg"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus", rate=16000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=16000 * 3)
        frame.rate = 16000
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    raw = path.read_bytes()
    assert audio_seconds(raw[:4096], raw[-131072:], len(raw)) == pytest.approx(3.0, abs=0.05)


def test_seconds_of_a_wav_file_and_of_nothing() -> None:
    wav = (ROOT / "tests" / "data" / "spoken_en.wav").read_bytes()
    assert audio_seconds(wav[:4096], wav[-4096:], len(wav)) == pytest.approx(
        (len(wav) - 44) / 32_000, abs=0.01
    )
    assert audio_seconds(b"ID3", b"", 3) == 0.0
    assert audio_seconds(b"OggS" + bytes(50), b"", 54) == 0.0
    assert audio_seconds(b"RIFF    WAVEfmt ", b"", 16) == 0.0


# -- answers --------------------------------------------------------------------------------------------


async def test_what_was_asked_is_recorded(server: ApiServer, sdk: openai.AsyncOpenAI, tmp_path: Path) -> None:
    chunk = write_opus(tmp_path / "a.ogg", seconds=12.5)
    sha256 = hashlib.sha256(chunk.path.read_bytes()).hexdigest()
    with chunk.path.open("rb") as file:
        answer = await sdk.audio.transcriptions.create(
            file=("name.ogg", file), model="gpt-transcribe", languages=["en", "de"]
        )
    assert answer.text == f"words of {sha256[:8]}"
    (request,) = server.requests
    assert (request.model, request.file_name, request.sha256) == ("gpt-transcribe", "name.ogg", sha256)
    assert request.file_bytes == chunk.size_bytes
    assert request.audio_s == pytest.approx(12.5)
    assert request.authorization == "Bearer sk-test"
    assert request.fields["languages[]"] == ["en", "de"]
    assert request.received_at is not None
    assert request.answered_at is not None
    assert request.started_at <= request.received_at <= request.answered_at
    assert (request.outcome, request.paid, server.paid) == ("ok", True, 1)


async def test_formats(server: ApiServer, sdk: openai.AsyncOpenAI) -> None:
    async def create(model: str, **options: Any) -> Any:
        return await sdk.audio.transcriptions.create(file=("a.ogg", b"abc"), model=model, **options)

    server.script(Ok("one two"), Ok("one two"), Ok("three"))
    verbose = await create("whisper-1", response_format="verbose_json", timestamp_granularities=["word"])
    assert [word.word for word in verbose.words] == ["one", "two"]
    assert (await create("whisper-1", response_format="verbose_json")).words is None
    assert (await create("whisper-1", response_format="text")).strip() == "three"
    with pytest.raises(openai.BadRequestError) as caught:
        await create("gpt-transcribe", response_format="verbose_json")
    assert (caught.value.code, caught.value.param) == ("unsupported_value", "response_format")


async def test_latency_grows_with_the_audio(tmp_path: Path) -> None:
    clock = FakeClock()
    chunk = write_opus(tmp_path / "a.ogg", seconds=10)
    async with (
        ApiServer(base_s=2, per_audio_s=0.1, clock=clock) as server,
        openai.AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as sdk,
    ):
        upload = ("a.ogg", chunk.path.read_bytes())
        task = asyncio.create_task(sdk.audio.transcriptions.create(file=upload, model="m"))
        await clock.until_sleeping()
        await clock.advance(2.9)
        assert server.load.current == 1
        assert not task.done()
        await clock.advance(0.1)
        await task
        (request,) = server.requests
        assert request.answered_at is not None
        assert request.answered_at - request.started_at == pytest.approx(3.0)
        assert server.stats()["busy_slot_s"] == pytest.approx(3.0)


async def test_requests_at_once_are_counted(server: ApiServer, sdk: openai.AsyncOpenAI) -> None:
    server.always = Hang()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(sdk.audio.transcriptions.create(file=("a.ogg", bytes(n)), model="m"))
            for n in (1, 2, 3)
        ]
        await server.until(lambda server: [r.outcome for r in server.requests].count("hang") == 3)
        assert (server.load.current, server.load.peak) == (3, 3)
        for task in tasks:
            task.cancel()
    await server.until(lambda server: server.load.current == 0)
    assert server.paid == 0


def test_load_over_time() -> None:
    load = Load()
    for at, by in ((1.0, 1), (2.0, 1), (4.0, -1), (5.0, -1)):
        load.change(at, by)
    assert load.peak == 2
    assert load.busy_slot_s(0, 10) == pytest.approx(1 + 4 + 1)
    assert load.busy_slot_s(3, 4.5) == pytest.approx(2 + 0.5)


@pytest.mark.parametrize(
    ("behaviour", "error", "paid"),
    [
        (behaviours.BAD_KEY, openai.AuthenticationError, 0),
        (behaviours.NO_QUOTA, openai.RateLimitError, 0),
        (behaviours.SERVER_ERROR, openai.InternalServerError, 0),
        (Status(503, headers={"retry-after": "2"}), openai.InternalServerError, 0),
        (Status(413, early=True), openai.APIError, 0),
        (Reset(), openai.APIConnectionError, 0),
        (Reset("upload"), openai.APIConnectionError, 0),
        (behaviours.PAID_THEN_LOST, openai.APIConnectionError, 1),
        (behaviours.TRUNCATED, openai.APIConnectionError, 1),
        (behaviours.MALFORMED, json.JSONDecodeError, 1),
        (behaviours.EMPTY, json.JSONDecodeError, 1),
    ],
    ids=str,
)
async def test_bad_behaviour(
    server: ApiServer, sdk: openai.AsyncOpenAI, behaviour: Any, error: type[Exception], paid: int
) -> None:
    server.script(behaviour)
    with pytest.raises(error):
        await sdk.audio.transcriptions.create(file=("a.ogg", bytes(5_000_000)), model="m")
    assert server.paid == paid
    answer = await sdk.audio.transcriptions.create(file=("a.ogg", b"abc"), model="m")
    assert answer.text.startswith("words of")


async def test_a_reset_in_the_upload_happens_in_the_upload(
    server: ApiServer, sdk: openai.AsyncOpenAI
) -> None:
    server.script(Reset("upload"))
    with pytest.raises(openai.APIConnectionError):
        await sdk.audio.transcriptions.create(file=("a.ogg", bytes(5_000_000)), model="m")
    assert server.requests[0].received_at is None


async def test_odd_answers(server: ApiServer, sdk: openai.AsyncOpenAI) -> None:
    server.script(behaviours.HTML, behaviours.NO_TEXT, Flood(100_000), Flood(100_000, chunked=True))
    page: Any = await sdk.audio.transcriptions.create(file=("a.ogg", b"abc"), model="m")
    assert isinstance(page, str)
    nothing: Any = await sdk.audio.transcriptions.create(file=("a.ogg", b"abc"), model="m")
    assert nothing.text is None
    for _ in range(2):
        with pytest.raises(json.JSONDecodeError):
            await sdk.audio.transcriptions.create(file=("a.ogg", b"abc"), model="m")


async def test_choose_looks_at_the_whole_request(server: ApiServer, sdk: openai.AsyncOpenAI) -> None:
    server.choose = lambda request: Ok("tiny") if request.file_bytes < 10 else None
    small = await sdk.audio.transcriptions.create(file=("a.ogg", b"abc"), model="m")
    large = await sdk.audio.transcriptions.create(file=("a.ogg", bytes(100)), model="m")
    assert small.text == "tiny"
    assert large.text.startswith("words of")


async def test_every_nth_request(server: ApiServer, sdk: openai.AsyncOpenAI) -> None:
    server.every = (3, behaviours.SERVER_ERROR)
    outcomes = []
    for _ in range(6):
        try:
            await sdk.audio.transcriptions.create(file=("a.ogg", b"abc"), model="m")
            outcomes.append("ok")
        except openai.InternalServerError:
            outcomes.append("500")
    assert outcomes == ["ok", "ok", "500", "ok", "ok", "500"]


async def test_a_request_that_is_no_form_is_refused(server: ApiServer) -> None:
    status, _ = await ask(server, "POST", "/v1/audio/transcriptions", b"hello")
    assert status == 400


async def test_side_doors(server: ApiServer, sdk: openai.AsyncOpenAI) -> None:
    assert "gpt-transcribe" in [model.id for model in (await sdk.models.list()).data]
    assert (await ask(server, "GET", "/nowhere"))[0] == 404
    assert (await ask(server, "POST", "/control", b'{"always": "nonsense"}'))[0] == 400
    order = {
        "base_s": 0.0,
        "script": [500, {"kind": "ok", "text": "told"}],
        "always": {"kind": "status", "status": 418},
    }
    assert (await ask(server, "POST", "/control", json.dumps(order).encode()))[0] == 200
    with pytest.raises(openai.InternalServerError):
        await sdk.audio.transcriptions.create(file=("a.ogg", b"abc"), model="m")
    assert (await sdk.audio.transcriptions.create(file=("a.ogg", b"abc"), model="m")).text == "told"
    with pytest.raises(openai.APIStatusError, match="418"):
        await sdk.audio.transcriptions.create(file=("a.ogg", b"abc"), model="m")
    stats = json.loads((await ask(server, "GET", "/stats"))[1])
    assert (stats["requests"], stats["paid"], stats["distinct_uploads"]) == (3, 1, 1)
    assert stats["outcomes"] == {"ok": 1, "refused": 2}


async def test_no_http_at_all_ends_the_connection(server: ApiServer) -> None:
    port = int(server.url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_leaving_ends_requests_that_hang(sdk: openai.AsyncOpenAI, server: ApiServer) -> None:
    server.always = Hang("upload")
    task = asyncio.create_task(sdk.audio.transcriptions.create(file=("a.ogg", bytes(5_000_000)), model="m"))
    await server.until(lambda server: bool(server.requests) and server.requests[0].outcome == "hang")
    await server.__aexit__(None, None, None)
    with pytest.raises(openai.APIConnectionError):
        await task


@pytest.mark.parametrize(
    ("value", "behaviour"),
    [
        (500, behaviours.SERVER_ERROR),
        (429, behaviours.RATE_LIMITED),
        (418, Status(418)),
        ("hang", Hang()),
        ({"kind": "raw", "body": "x", "status": 201}, Raw(b"x", status=201)),
        ({"kind": "flood", "total_bytes": 9}, Flood(9)),
    ],
)
def test_behaviours_from_json(value: object, behaviour: object) -> None:
    assert from_json(value) == behaviour


@pytest.mark.parametrize("value", ["nonsense", None, {"kind": "ok", "unknown": 1}, {}, [1]])
def test_what_is_no_behaviour(value: object) -> None:
    with pytest.raises(ValueError, match=r"not a behaviour|unexpected keyword"):
        from_json(value)


def test_redirect_names_its_target() -> None:
    assert redirect("http://elsewhere/").headers == {"location": "http://elsewhere/"}


# -- as a process ---------------------------------------------------------------------------------------


async def test_as_a_process(tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", "tnfd.testing.api_server", "--log", str(log), "--every", "2",
        "--status", "503", "--latency", "0.01", "--per-audio", "0.001",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    url = (await process.stdout.readline()).decode().strip()
    async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as sdk:
        await sdk.audio.transcriptions.create(file=("a.ogg", b"abc"), model="m")
        with pytest.raises(openai.InternalServerError):
            await sdk.audio.transcriptions.create(file=("a.ogg", b"abc"), model="m")
    process.send_signal(signal.SIGTERM)
    stderr = await process.stderr.read()
    assert await process.wait() == 0, stderr
    assert stderr == b""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(row["status"], row["file_bytes"]) for row in rows] == [(200, 3), (503, 3)]
