"""The engine, the real SDK and a real server: options, refusals, broken answers, secrets, memory."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import traceback
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tnfd.engines.openai import OpenAIEngine
from tnfd.engines.profiles import OPENAI_URL, profile_for
from tnfd.errors import Fate, Fault
from tnfd.model import ChunkResult
from tnfd.ports.engine import EngineChunk, Hints
from tnfd.testing import FakeClock, behaviours
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import Behaviour, Flood, Hang, Ok, Raw, Reset, Status, redirect
from tnfd.testing.samples import write_opus

ROOT = Path(__file__).parent.parent.parent
KEY = "sk-test-0123456789"
PLAIN = Hints()
TIMES = Hints(want_times=True)

Make = Callable[..., OpenAIEngine]


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


@pytest.fixture
def chunk(tmp_path: Path) -> EngineChunk:
    return write_opus(tmp_path / "cut.ogg", seconds=6.0)


@pytest.fixture
async def make(server: ApiServer) -> AsyncIterator[Make]:
    """Engines that talk to the server; closed at the end."""
    engines: list[OpenAIEngine] = []

    def build(model: str = "whisper-x", **options: Any) -> OpenAIEngine:
        options = {"base_url": server.url, "api_key": lambda: KEY, **options}
        if options.pop("as_openai", False):
            options["profile"] = profile_for(model, OPENAI_URL)
        engine = OpenAIEngine("test", model, options.pop("base_url"), options.pop("api_key"), **options)
        engines.append(engine)
        return engine

    yield build
    for engine in engines:
        await engine.__aexit__(None, None, None)


async def fault_from(engine: OpenAIEngine, chunk: EngineChunk, hints: Hints = PLAIN) -> Fault:
    with pytest.raises(Fault) as caught:
        await engine.transcribe(chunk, hints)
    return caught.value


# -- what is sent ---------------------------------------------------------------------------------------


async def test_gpt_transcribe_gets_lists_and_json(server: ApiServer, make: Make, chunk: EngineChunk) -> None:
    hints = Hints(("en", "de"), "Names of people.", ("tnfd", "a<b>\r\nc", " "), want_times=True)
    result = await make("gpt-transcribe", as_openai=True).transcribe(chunk, hints)
    assert result.text.startswith("words of")
    assert result.timestamps == "none"
    (request,) = server.requests
    assert request.fields == {
        "model": ["gpt-transcribe"],
        "response_format": ["json"],
        "languages[]": ["en", "de"],
        "keywords[]": ["tnfd", "a b c"],
        "prompt": ["Names of people."],
    }
    assert (request.file_name, request.file_type, request.file_bytes) == (
        "audio.ogg",
        "audio/ogg",
        chunk.size_bytes,
    )
    assert request.authorization == f"Bearer {KEY}"


@pytest.mark.parametrize(("languages", "sent"), [((), None), (("de",), ["de"]), (("de", "en"), None)])
async def test_other_models_get_one_language_and_keywords_in_the_prompt(
    server: ApiServer, make: Make, chunk: EngineChunk, languages: tuple[str, ...], sent: list[str] | None
) -> None:
    hints = Hints(languages, "A talk.", ("tnfd", "sphinx"))
    await make("gpt-4o-transcribe", as_openai=True).transcribe(chunk, hints)
    fields = server.requests[0].fields
    assert fields.get("language") == sent
    assert fields["prompt"] == ["A talk. tnfd, sphinx"]
    assert "keywords[]" not in fields
    assert "languages[]" not in fields


async def test_times_come_from_verbose_json(server: ApiServer, make: Make, chunk: EngineChunk) -> None:
    result = await make("whisper-1", as_openai=True).transcribe(chunk, TIMES)
    fields = server.requests[0].fields
    assert fields["response_format"] == ["verbose_json"]
    assert fields["timestamp_granularities[]"] == ["word", "segment"]
    assert result.timestamps == "engine"
    assert result.languages == ("en",)
    (segment,) = result.segments
    assert len(segment.words or ()) == 3


async def test_times_are_not_asked_for_where_nobody_wants_them(
    server: ApiServer, make: Make, chunk: EngineChunk
) -> None:
    await make("whisper-1", as_openai=True).transcribe(chunk, Hints())
    assert server.requests[0].response_format == "json"


async def test_names_of_files_never_travel(server: ApiServer, make: Make, chunk: EngineChunk) -> None:
    odd = chunk.path.rename(chunk.path.with_name("secret \udcff.ogg"))
    await make().transcribe(replace(chunk, path=odd), Hints())
    assert server.requests[0].file_name == "audio.ogg"


# -- usage and money ------------------------------------------------------------------------------------


async def test_usage_is_priced_where_the_price_is_known(make: Make, chunk: EngineChunk) -> None:
    result = await make("whisper-1", as_openai=True).transcribe(chunk, Hints())
    assert result.audio_s == pytest.approx(6.0)
    assert result.cost_usd == pytest.approx(6.0 / 60 * 0.006)


async def test_usage_is_not_priced_elsewhere(make: Make, chunk: EngineChunk) -> None:
    local = await make("whisper-1").transcribe(chunk, Hints())
    assert local.audio_s == pytest.approx(6.0)
    assert local.cost_usd is None
    own_price = make("whisper-1", as_openai=True, price_usd_per_minute=1.0)
    assert (await own_price.transcribe(chunk, Hints())).cost_usd is None
    assert own_price.capabilities.usd_per_minute == 1.0


async def test_tokens_are_not_priced(server: ApiServer, make: Make, chunk: EngineChunk) -> None:
    server.script(Ok(extra={"usage": {"type": "tokens", "total_tokens": 99}}))
    result = await make("gpt-transcribe", as_openai=True).transcribe(chunk, Hints())
    assert (result.audio_s, result.cost_usd) == (None, None)


# -- what is not sent -----------------------------------------------------------------------------------


async def test_hardly_any_audio_is_not_sent(server: ApiServer, make: Make, chunk: EngineChunk) -> None:
    result = await make().transcribe(replace(chunk, duration_s=0.05), Hints())
    assert result == ChunkResult("", flags=("no_speech",))
    assert server.requests == []


async def test_too_many_bytes_are_not_sent(server: ApiServer, make: Make, chunk: EngineChunk) -> None:
    fault = await fault_from(make(), replace(chunk, size_bytes=30_000_000))
    assert fault.code == "engine.too_large"
    assert server.requests == []


async def test_no_key_is_said_before_anything_is_sent(chunk: EngineChunk) -> None:
    async with OpenAIEngine("openai", "gpt-transcribe", "", lambda: None) as engine:
        assert engine.base_url == "https://api.openai.com/v1"
        fault = await fault_from(engine, chunk)
    assert (fault.code, fault.fate) == ("engine.no_key", Fate.ENGINE)


@pytest.mark.parametrize("key", ["sk-ключ", "two words", "line\nbreak", "\x00"])
async def test_keys_that_no_header_can_hold(
    server: ApiServer, make: Make, chunk: EngineChunk, key: str
) -> None:
    fault = await fault_from(make(api_key=lambda: key), chunk)
    assert fault.code == "engine.bad_key"
    assert key not in str(fault)
    assert server.requests == []


async def test_a_key_put_in_place_later_is_found(server: ApiServer, make: Make, chunk: EngineChunk) -> None:
    keys = iter([f"{KEY}\n", "sk-other-key"])
    engine = make(api_key=lambda: next(keys))
    await engine.transcribe(chunk, Hints())
    await engine.transcribe(chunk, Hints())
    assert [request.authorization for request in server.requests] == [f"Bearer {KEY}", "Bearer sk-other-key"]


async def test_servers_without_a_key_get_a_dummy(server: ApiServer, make: Make, chunk: EngineChunk) -> None:
    engine = make(api_key=lambda: None)
    await engine.transcribe(chunk, Hints())
    assert server.requests[0].authorization == "Bearer none"
    server.script(behaviours.BAD_KEY)
    assert (await fault_from(engine, chunk)).code == "engine.no_key"


async def test_what_the_environment_holds_for_openai_goes_to_nobody_else(
    server: ApiServer, make: Make, chunk: EngineChunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env-key")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-key")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer custom\nX-Mine: private")
    await make().transcribe(chunk, Hints())
    (request,) = server.requests
    assert request.authorization == f"Bearer {KEY}"
    said = json.dumps(request.headers).lower()
    for secret in ("sk-env", "sk-admin", "org-secret", "proj-secret", "custom", "private", "x-stainless-os"):
        assert secret not in said


async def test_a_redirect_never_carries_the_key_elsewhere(
    server: ApiServer, make: Make, chunk: EngineChunk
) -> None:
    async with ApiServer() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            server.script(replace(redirect(f"{elsewhere.url}/audio/transcriptions"), status=status))
            fault = await fault_from(make(), chunk)
            assert fault.code == "engine.no_model"
            assert "base_url" in fault.message
        assert elsewhere.requests == []


# -- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (behaviours.BAD_KEY, "engine.bad_key"),
        (behaviours.NO_QUOTA, "engine.no_quota"),
        (Status(402), "engine.no_quota"),
        (Status(404, "model_not_found"), "engine.no_model"),
        (Raw(b"<html>404</html>", status=404, content_type="text/html"), "engine.no_model"),
        (Raw(b'{"detail": "Model \'x\' is not installed locally."}', status=404), "engine.no_model"),
        (behaviours.RATE_LIMITED, "engine.rate_limited"),
        (behaviours.SERVER_ERROR, "engine.server_error"),
        (Raw(b"<html>502 Bad Gateway</html>", status=502, content_type="text/html"), "engine.server_error"),
        (Status(408), "engine.timeout"),
        (Status(413), "engine.too_large"),
        (Raw(b"<html>413</html>", status=413, content_type="text/html"), "engine.too_large"),
        (Status(415), "engine.bad_audio"),
        (
            Status(400, "invalid_value", message="Audio file might be corrupted or unsupported"),
            "engine.bad_audio",
        ),
        (Status(400, "content_filter"), "engine.content_filter"),
        (behaviours.MALFORMED, "engine.bad_answer"),
        (behaviours.EMPTY, "engine.bad_answer"),
        (behaviours.HTML, "engine.bad_answer"),
        (behaviours.NO_TEXT, "engine.bad_answer"),
        (behaviours.ERROR_ON_200, "engine.bad_answer"),
        (behaviours.TRUNCATED, "engine.unreachable"),
        (Reset(), "engine.unreachable"),
        (Reset("upload"), "engine.unreachable"),
        (behaviours.PAID_THEN_LOST, "engine.unreachable"),
    ],
    ids=str,
)
async def test_every_failure_is_one_request_and_one_fault(
    server: ApiServer, make: Make, chunk: EngineChunk, behaviour: Behaviour, code: str
) -> None:
    server.script(behaviour)
    engine = make()
    assert (await fault_from(engine, chunk)).code == code
    assert len(server.requests) == 1
    assert (await engine.transcribe(chunk, Hints())).text  # and the engine is as good as before


async def test_patience_comes_from_the_headers(server: ApiServer, make: Make, chunk: EngineChunk) -> None:
    clock = FakeClock(datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC))
    engine = make(clock=clock)
    server.script(
        Status(429, headers={"retry-after-ms": "1500"}),
        Status(429, headers={"retry-after": "Mon, 23 Nov 2026 12:00:30 GMT"}),
        Status(503, headers={"Retry-After": "7"}),
        Status(429, headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"}),
        Status(429),
    )
    waits = [(await fault_from(engine, chunk)).retry_after_s for _ in range(5)]
    assert waits == [1.5, 30.0, 7.0, 62.5, None]


async def test_nobody_listens(make: Make, chunk: EngineChunk, unused_port: int) -> None:
    fault = await fault_from(make(base_url=f"http://127.0.0.1:{unused_port}/v1"), chunk)
    assert fault.code == "engine.unreachable"
    assert KEY not in str(fault)


@pytest.fixture
async def unused_port() -> int:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://127.0.0.1:99999/v1", "nonsense", "ftp://127.0.0.1/v1"]
)
async def test_a_base_url_that_is_none(make: Make, chunk: EngineChunk, url: str) -> None:
    fault = await fault_from(make(base_url=url), chunk)
    assert fault.code == "engine.no_model"


@pytest.mark.parametrize("when", ["answer", "upload"])
async def test_a_hang_costs_one_timeout(server: ApiServer, make: Make, tmp_path: Path, when: Any) -> None:
    engine = make(timeout_s=0.5)
    await engine.warm()
    server.script(Hang(when))
    loop = asyncio.get_running_loop()
    begin = loop.time()
    fault = await fault_from(engine, write_opus(tmp_path / "big.ogg", seconds=60, size_bytes=20_000_000))
    assert fault.code == "engine.timeout"
    assert 0.5 <= loop.time() - begin < 3
    assert len(server.requests) == 1


async def test_the_allowance_grows_with_the_audio(make: Make, chunk: EngineChunk) -> None:
    engine = make()
    short = engine._allowance_s(chunk)
    assert short >= 120
    assert engine._allowance_s(replace(chunk, duration_s=600)) >= short + 600
    assert engine._allowance_s(replace(chunk, size_bytes=20_000_000)) >= short + 60


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [100_000_000, 2**40])
async def test_answers_larger_than_any_transcript_are_refused(
    server: ApiServer, make: Make, chunk: EngineChunk, chunked: bool, size: int
) -> None:
    server.script(Flood(size, chunked=chunked))
    engine = make()
    fault = await fault_from(engine, chunk)
    assert fault.code == "engine.bad_answer"
    assert (await engine.transcribe(chunk, Hints())).text


async def test_large_refusals_are_bounded_as_well(server: ApiServer, make: Make, chunk: EngineChunk) -> None:
    server.script(Raw(b"x" * 70_000_000, status=500))
    assert (await fault_from(make(), chunk)).code == "engine.bad_answer"


async def test_a_compressed_answer_is_refused(server: ApiServer, make: Make, chunk: EngineChunk) -> None:
    server.script(Raw(b"\x1f\x8b", headers={"content-encoding": "gzip"}))
    assert (await fault_from(make(), chunk)).code == "engine.bad_answer"
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_a_large_transcript_is_read(server: ApiServer, make: Make, chunk: EngineChunk) -> None:
    server.script(Ok("word " * 200_000))
    assert len((await make().transcribe(chunk, Hints())).text) == 999_999


async def test_no_speech_is_said(server: ApiServer, make: Make, chunk: EngineChunk) -> None:
    engine = make()
    server.script(
        Ok(" \n"),
        Status(
            400, "audio_too_short", message="Audio file is too short. Minimum audio length is 0.1 seconds."
        ),
        Status(400, "invalid_value", message="audio duration 0.09 seconds is shorter than 0.1 seconds"),
    )
    for _ in range(3):
        result = await engine.transcribe(chunk, Hints())
        assert (result.text, result.flags) == ("", ("no_speech",))


# -- learning -------------------------------------------------------------------------------------------


async def test_an_unknown_server_without_verbose_json_is_remembered(
    server: ApiServer, make: Make, chunk: EngineChunk
) -> None:
    engine = make("gpt-4o-transcribe")  # the test server refuses verbose_json for this model
    fault = await fault_from(engine, chunk, TIMES)
    assert (fault.code, fault.fate) == ("engine.adjusted", Fate.ADJUST)
    result = await engine.transcribe(chunk, TIMES)
    assert (result.timestamps, bool(result.text)) == ("none", True)
    await engine.transcribe(chunk, TIMES)
    assert [request.response_format for request in server.requests] == ["verbose_json", "json", "json"]


async def test_requests_that_were_under_way_are_adjusted_as_well(
    server: ApiServer, make: Make, chunk: EngineChunk
) -> None:
    engine = make("gpt-4o-transcribe", max_concurrency=2)
    faults = await asyncio.gather(
        engine.transcribe(chunk, TIMES), engine.transcribe(chunk, TIMES), return_exceptions=True
    )
    assert [fault.code for fault in faults if isinstance(fault, Fault)] == ["engine.adjusted"] * 2


HINTS = Hints(("en",), "prompt", ("keyword",), want_times=True)


@pytest.mark.parametrize(
    ("model", "as_openai", "param", "field"),
    [
        ("gpt-transcribe", True, "languages", "languages[]"),
        ("gpt-transcribe", True, "language", "languages[]"),
        ("gpt-transcribe", True, "keywords", "keywords[]"),
        ("gpt-transcribe", True, "prompt", "prompt"),
        ("gpt-4o-transcribe", True, "language", "language"),
        ("whisper-x", False, "timestamp_granularities", "timestamp_granularities[]"),
        ("whisper-x", False, "without_timestamps", "without_timestamps"),
    ],
)
async def test_an_option_that_is_refused_is_left_out_from_then_on(
    server: ApiServer, make: Make, chunk: EngineChunk, model: str, as_openai: bool, param: str, field: str
) -> None:
    engine = make(model, as_openai=as_openai)
    server.script(Status(400, "unknown_parameter", message=f"Unknown parameter: '{param}'.", param=param))
    assert (await fault_from(engine, chunk, HINTS)).code == "engine.adjusted"
    assert (await engine.transcribe(chunk, HINTS)).text
    assert [field in request.fields for request in server.requests] == [True, False]
    # keywords that the server does not take join the prompt instead
    if param == "keywords":
        assert server.requests[1].fields["prompt"] == ["prompt keyword"]


async def test_adjusting_ends_even_if_everything_is_refused(
    server: ApiServer, make: Make, chunk: EngineChunk
) -> None:
    server.always = Status(
        400, message="response_format timestamp_granularities without_timestamps language keywords prompt"
    )
    engine = make()
    codes: list[str] = []
    while not codes or codes[-1] == "engine.adjusted":
        codes.append((await fault_from(engine, chunk, HINTS)).code)
        assert len(codes) < 10
    assert codes[-1] == "engine.rejected"


async def test_the_longest_audio_is_learned(server: ApiServer, make: Make, chunk: EngineChunk) -> None:
    engine = make("gpt-transcribe", as_openai=True)
    said = (
        "audio duration 1830.530612 seconds is longer than 1400 seconds which is the maximum for this model"
    )
    server.script(Status(400, "invalid_value", message=said))
    assert (await fault_from(engine, chunk)).code == "engine.too_large"
    assert engine.capabilities.max_s == 1390
    server.script(Status(400, "invalid_value", message=said.replace("1400", "1")))
    await fault_from(engine, chunk)
    assert engine.capabilities.max_s == 1390  # not believed


async def test_whisper_cpp_is_asked_to_detect_the_language(
    server: ApiServer, make: Make, chunk: EngineChunk
) -> None:
    server.choose = lambda request: Ok(headers={"server": "whisper.cpp"})
    engine = make()
    assert (await fault_from(engine, chunk)).code == "engine.adjusted"
    assert (await engine.transcribe(chunk, Hints())).text
    assert (await engine.transcribe(chunk, Hints(languages=("de",)))).text
    assert [request.fields.get("language") for request in server.requests] == [None, ["auto"], ["de"]]


async def test_options_that_were_set_win(make: Make) -> None:
    engine = make(max_concurrency=7, price_usd_per_minute=0.0)
    assert engine.capabilities.max_concurrency == 7
    assert engine.capabilities.usd_per_minute == 0.0
    assert make().capabilities.max_concurrency == 1


# -- secrets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour",
    [
        Status(401, message=f"Incorrect API key provided: {KEY}. Bearer {KEY}"),
        Status(400, message=f"you sent {KEY}"),
        Raw(f'{{"error": "{KEY}"}}'.encode()),
        Raw(f"secret transcript {KEY}".encode(), content_type="application/json"),
        Raw(f'{{"text": "secret transcript {KEY}'.encode(), content_type="application/json"),
        Raw(f"<html>secret transcript {KEY}".encode(), status=500, content_type="text/html"),
    ],
    ids=str,
)
async def test_no_secret_is_in_a_fault_or_its_traceback(
    server: ApiServer, make: Make, chunk: EngineChunk, behaviour: Behaviour
) -> None:
    server.script(behaviour)
    fault = await fault_from(make(), chunk)
    assert fault.__context__ is None
    shown = "".join(traceback.format_exception(fault)) + fault.message + fault.detail + fault.hint
    # source lines of this test are in the traceback, values are not
    assert "0123456789" not in shown
    assert "secret transcript" not in fault.message


# -- resources ------------------------------------------------------------------------------------------


async def test_many_requests_at_once_use_as_many_slots(
    server: ApiServer, make: Make, chunk: EngineChunk
) -> None:
    engine = make(max_concurrency=20)
    server.always = Hang()
    tasks = [asyncio.create_task(engine.transcribe(chunk, Hints())) for _ in range(20)]
    await server.until(lambda server: server.load.current == 20)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await server.until(lambda server: server.load.current == 0)  # cancelling closed every connection


async def test_a_large_upload_is_never_in_memory(make: Make, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tnfd.testing.api_server", stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    engine = make(base_url=url)
    await engine.transcribe(write_opus(tmp_path / "small.ogg", seconds=1), Hints())
    large = write_opus(tmp_path / "large.ogg", seconds=3600, size_bytes=20_000_000)
    gc.collect()
    tracemalloc.start()
    try:
        assert (await engine.transcribe(large, Hints())).text
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        process.terminate()
        await process.wait()
    assert peak_bytes < 5_000_000


async def test_warming_sends_nothing_and_closing_is_final(
    server: ApiServer, make: Make, chunk: EngineChunk
) -> None:
    engine = make()
    async with asyncio.TaskGroup() as group:
        group.create_task(engine.warm())
        group.create_task(engine.warm())
    assert server.requests == []
    await engine.__aexit__(None, None, None)
    with pytest.raises(RuntimeError, match="closed"):
        await engine.transcribe(chunk, Hints())
