"""What servers answer is a stranger's word: bounded, escaped in every format and on terminals, or refused."""

# ruff: noqa: ASYNC240

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pysubs2
import pytest
import webvtt
from markdown_it import MarkdownIt

from tests.e2e.daemon import Daemon, Site
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import Flood, Ok, Raw, Status, redirect

FORMATS = ["txt", "md", "srt", "vtt", "json"]
GIGABYTE = 1 << 30
NASTY = (
    "\x1b[2J\x1b]0;owned\x07\x1b[31mred\x9b31m \x00\x08\x7f\u202eright\u2066left "
    "<script>alert(1)</script> --> 00:00:00.000 --> 00:00:01.000\r\n\r\n1\r\nWEBVTT\n\nNOTE x\n\n"
    "{\\an8}&amp;<v Bob> ---\ntitle: forged\n--- \ud800 end"
)
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def texts(site: Site, source: Path) -> dict[str, str]:
    return {ext: source.with_suffix(f".{ext}").read_bytes().decode("utf-8") for ext in FORMATS}


def nasty(text: str, seconds: float) -> Raw:
    """A transcript whose every string is hostile and whose every time is absurd."""
    times = [-1e308, 1e308, 0.0, -5.0, seconds * 1e9, 0.2]
    words = [{"word": text, "start": start, "end": -start} for start in times]
    body = {
        "text": text, "language": text, "duration": 1e308,
        "segments": [
            {"start": 0.0, "end": 0.2, "text": text, "speaker": text, "words": words},
            {"start": 0.2, "end": 0.4, "text": text, "speaker": "\x1b[1m", "words": words},
        ],
        "usage": {"type": "duration", "seconds": -1e308},
    }  # fmt: skip
    return Raw(json.dumps(body).encode())


async def peak_of(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_answer_of_a_gigabyte_is_refused_before_it_fills_the_memory(
    site: Site, server: ApiServer, chunked: bool
) -> None:
    async with site.daemon() as daemon:
        first = site.drop("first.wav", seed=1)
        await daemon.final(site, first)
        before = await peak_of(daemon) if Path("/proc/self/status").exists() else 0
        server.script(Flood(GIGABYTE, chunked=chunked))
        talk = site.drop("talk.wav", seed=2)
        assert (await daemon.event("job.retry"))["code"] == "engine.bad_answer"
        assert await daemon.final(site, talk) == ["done"]
        if before:
            assert await peak_of(daemon) - before < 200 << 20
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 1_000_000, id="deep-list"),
        pytest.param(b'{"a":' * 200_000 + b"1" + b"}" * 200_000, id="deep-object"),
        pytest.param(b'{"text": "x", "segments": [' + b"{}," * 100_000 + b'{"start": 1e999}]', id="cut-off"),
        pytest.param(b'{"text": ' + b"9" * 10_000 + b"}", id="huge-number"),
        pytest.param(b'\xff\xfe{\x00"\x00', id="utf-16"),
        pytest.param(b"\x1f\x8b\x08" + bytes(1000), id="gzip"),
        pytest.param(b"NaN", id="nan"),
    ],
)
async def test_an_answer_that_is_none_is_a_counted_failure(
    site: Site, server: ApiServer, body: bytes
) -> None:
    server.script(Raw(body))
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        assert (await daemon.event("job.retry"))["code"] == "engine.bad_answer"
        assert await daemon.final(site, talk) == ["done"]
    assert len(server.requests) == 2


async def test_hostile_text_and_times_are_tame_in_every_format_and_on_the_terminal(
    site: Site, server: ApiServer
) -> None:
    site.configure(inbox={"formats": FORMATS})
    server.always = nasty(NASTY, 0.5)
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.final(site, talk)
        written = texts(site, talk)
        shown = await site.tnfd("show", talk)
        listed = await site.tnfd("jobs")
    for ext, text in written.items():
        assert not CONTROL.search(text), ext
        assert "\ufffd" in text or ext != "txt"  # the lone surrogate
    assert not re.search(r"[\x1b\x9b]", shown.out + listed.out)
    # Parsers of other people find what we wrote, within the recording, and nothing that was smuggled in.
    cues = list(pysubs2.SSAFile.from_string(written["srt"], format_="srt"))
    assert cues
    assert all(0 <= cue.start <= cue.end <= 60_000 for cue in cues)
    parsed = webvtt.from_buffer(io.StringIO(written["vtt"]))
    assert len(parsed.captions) == written["vtt"].count(" --> ")
    assert "<script" not in written["vtt"]
    assert not re.search(r"-->(?! \d\d:)", written["vtt"])
    front = written["md"].split("---\n")[1]
    assert "title: forged" not in front
    body = written["md"].split("---\n", 2)[2]
    assert "<script" not in MarkdownIt("commonmark").render(body)
    transcript = json.loads(written["json"])
    assert all(0 <= segment["start_s"] <= segment["end_s"] <= 0.6 for segment in transcript["segments"])
    assert transcript["languages"] == []


async def test_errors_with_escapes_and_keys_reach_the_log_tame(site: Site, server: ApiServer) -> None:
    site.configure(daemon={"max_attempts": 1})
    secret = "sk-" + "a1" * 20
    message = f"\x1b[31m{secret}\x07 Bearer {secret}\r\n\u202e" + "x" * 100_000
    server.always = Status(400, "bad\x1b[1m", message=message)
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.final(site, talk)
        status = site.status(talk)
        assert status is not None
        said = status["error"]["message"]
        assert len(said) < 400
        assert said.isprintable()
        assert secret not in json.dumps(status) + str(daemon.events)
        shown = await site.tnfd("show", talk)
    assert "\x1b" not in shown.out
    assert secret not in shown.out


async def test_a_redirect_is_refused_and_the_key_goes_nowhere(site: Site, server: ApiServer) -> None:
    key = site.base / "key"
    key.write_text("sk-mine")
    key.chmod(0o600)
    site.configure(engine={"api_key_file": str(key)})
    async with ApiServer() as elsewhere:
        server.always = redirect(f"{elsewhere.url}/audio/transcriptions")
        async with site.daemon() as daemon:
            site.drop("talk.wav")
            paused = await daemon.event("engine.paused")
            assert "redirect" in str(paused)
        assert elsewhere.requests == []
    assert all(request.authorization == "Bearer sk-mine" for request in server.requests)


async def test_another_job_s_text_cannot_be_told_apart_and_stays_with_its_own_job(
    site: Site, server: ApiServer
) -> None:
    """A server that answers all with one text harms those jobs alone; nothing is merged by text."""
    server.always = Ok("the same words")
    async with site.daemon() as daemon:
        talks = [site.drop(f"{number}.wav", seed=number) for number in range(3)]
        assert await daemon.final(site, *talks) == ["done"] * 3
    assert len(server.requests) == 3
    assert len(list(site.inbox.glob("*.txt"))) == 3
