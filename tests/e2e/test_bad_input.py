"""What users drop by mistake, servers that fail, folders that refuse: the real daemon says so and goes on."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Daemon, Site, permissions_can_bind, sha256, tone
from tests.integration import media_files as make
from tnfd.errors import CODES
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import (
    BAD_KEY,
    HTML,
    MALFORMED,
    NO_QUOTA,
    SERVER_ERROR,
    Behaviour,
    Hang,
    Reset,
    Status,
)

needs_permissions = pytest.mark.skipif(
    not permissions_can_bind(), reason="root cannot be bound by permission bits here"
)


def assert_says_why(site: Site, daemon: Daemon, source: Path, code: str) -> None:
    """The status file and the log name the code and say what to do."""
    status = site.status(source)
    assert status is not None
    assert status["error"]["code"] == code
    assert status["error"]["hint"] == CODES[code].hint
    assert status["error"]["message"].startswith(CODES[code].message)
    assert status["outputs"] == {}
    (event,) = daemon.named("job.failed", file=source.name)
    assert (event["code"], event["hint"]) == (code, CODES[code].hint)


async def assert_alive(site: Site, daemon: Daemon, server: ApiServer) -> None:
    """It still does what it is for."""
    alive = site.drop("alive.wav", seed=4711)
    assert await daemon.final(site, alive) == ["done"]


# -- the configuration ------------------------------------------------------------------------------------


async def test_without_an_engine_it_exits_78_and_names_the_choices(site: Site) -> None:
    site.configure(engines={})
    ran = await site.tnfd("run")
    assert ran.code == 78
    assert "openai" in ran.err
    assert "sphinx" in ran.err
    assert "tnfd init --engine" in ran.err
    assert "Traceback" not in ran.err


async def test_all_mistakes_are_told_at_once_with_their_lines(site: Site) -> None:
    site.config.write_text(
        f'[daemon]\nworkerz = 3\nstate_dir = "{site.inbox}/state"\n[[inbox]]\npath = "{site.base}/gone"\n'
        f'[[inbox]]\npath = "{site.inbox}"\nsettle_s = "soon"\n[engines.sphinx]\n'
    )
    ran = await site.tnfd("run")
    assert ran.code == 78
    for line, word in ((2, "workerz"), (3, "state_dir"), (5, "gone"), (8, "settle_s")):
        assert any(f"tnfd.toml:{line}:" in text and word in text for text in ran.err.splitlines()), ran.err


async def test_without_a_key_jobs_wait_and_nothing_fails(site: Site) -> None:
    site.configure(engines={"openai": {"type": "openai"}})
    async with site.daemon() as daemon:
        first, second = site.drop("first.wav", seed=1), site.drop("second.wav", seed=2)
        paused = await daemon.event("engine.paused", code="engine.no_key")
        assert "OPENAI_API_KEY" in paused["hint"]
        await daemon.event("job.queued", 2)

        async def counts() -> dict[str, Any]:
            found: dict[str, Any] = (await site.tnfd("status", "--json")).json
            return found

        status = await counts()
        assert status["healthy"]
        assert any("no API key" in line for line in status["attention"])
        assert status["engines"][0]["reason"] == "engine.no_key"
        assert status["counts"]["failed"] == 0
        shown = (await site.tnfd("show", second, "--json")).json
        assert shown["waiting"]["reason"] == "engine_paused"
        assert shown["failures"] == 0
        assert shown["error"] is None
    assert not daemon.named("job.failed")
    assert not list(site.inbox.glob("*.txt"))
    assert first.exists()


async def test_a_wrong_key_pauses_the_engine_until_it_is_put_right(site: Site, server: ApiServer) -> None:
    key = site.base / "key"
    key.write_text("sk-wrong")
    key.chmod(0o600)
    site.configure(engine={"api_key_file": str(key), "max_concurrency": 1})
    server.choose = lambda request: None if request.authorization == "Bearer sk-right" else BAD_KEY
    async with site.daemon() as daemon:
        talks = [site.drop(f"{n}.wav", seed=n) for n in range(3)]
        paused = await daemon.event("engine.paused", code="engine.bad_key")
        assert "sk-" not in str(paused)
        await daemon.event("job.queued", 3)
        assert await daemon.stop() == 0
    assert not daemon.named("job.failed")
    assert len(server.requests) <= 2  # not one for each file
    key.write_text("sk-right")
    async with site.daemon() as daemon:  # a restart probes at once
        assert set(await daemon.final(site, *talks)) == {"done"}
        await daemon.event("engine.resumed")
    statuses = [site.status(talk) for talk in talks]
    assert all(status and status["failures"] == 0 for status in statuses)
    assert "sk-" not in (site.inbox / "0.wav.status.json").read_text()


# -- files that are none ----------------------------------------------------------------------------------


async def test_one_broken_file_each_fails_with_its_reason_and_stops_no_other(
    site: Site, server: ApiServer
) -> None:
    notes = site.put(site.stage(b"Dear diary, this is not audio.\n" * 100), "notes.mp3")
    silent = site.put(make.film(site.base / "silent.mp4", 0.5, []), "silent.mp4")
    pipe = site.inbox / "pipe.mp3"
    os.mkfifo(pipe)
    cut_off = site.put(site.stage(tone(site.stage()).read_bytes()[:30]), "cut-off.wav")
    async with site.daemon() as daemon:
        good = site.drop("good.wav")
        states = await daemon.final(site, notes, silent, pipe, cut_off, good)
        assert states == ["failed", "failed", "failed", "failed", "done"]
        assert_says_why(site, daemon, notes, "media.not_media")
        assert_says_why(site, daemon, silent, "media.no_audio")
        assert_says_why(site, daemon, pipe, "source.not_regular")
        assert len(daemon.named("job.failed")) == 4
        # A retry by hand tries again and comes to the same end, said again.
        ran = await site.tnfd("retry", notes)
        assert ran.code == 0
        await daemon.event("job.failed", 2, file="notes.mp3")
        # The thing itself put right is taken by itself.
        repaired = site.drop("notes.mp3", seed=3)
        await daemon.until(lambda: site.state_of(repaired) == "done")
    assert len(server.requests) == 2
    async with site.daemon() as daemon:  # what failed for good is not tried at each start
        await assert_alive(site, daemon, server)
    assert [event["file"] for event in daemon.named("job.started")] == ["alive.wav"]


async def test_an_empty_file_is_not_taken_early_and_is_shown(site: Site, server: ApiServer) -> None:
    """It may still grow; the 60 s after which it fails are a rule of their own, tested by itself."""
    async with site.daemon() as daemon:
        empty = site.put(site.stage(), "empty.mp3")
        await daemon.event("file.seen", file="empty.mp3")
        assert await daemon.until(lambda: site.state_of(empty)) == "settling"
        assert not daemon.named("job.failed")
        listed = (await site.tnfd("jobs", "--json")).json
        assert [(job["source"]["name"], job["state"]) for job in listed] == [("empty.mp3", "settling")]
        empty.write_bytes(tone(site.stage()).read_bytes())
        assert await daemon.final(site, empty) == ["done"]
    assert len(server.requests) == 1


async def test_audio_beyond_all_bounds_fails_before_anything_is_sent(site: Site, server: ApiServer) -> None:
    """Forty-nine hours of silence that take no room on the disk."""
    count = 49 * 3600 * 8000
    staged = site.stage(
        struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + count, b"WAVE", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8,
                    b"data", count)
    )  # fmt: skip
    os.truncate(staged, 44 + count)
    async with site.daemon() as daemon:
        long = site.put(staged, "long.wav")
        assert await daemon.final(site, long) == ["failed"]
        assert_says_why(site, daemon, long, "media.too_long")
        await assert_alive(site, daemon, server)
    assert len(server.requests) == 1


@needs_permissions
async def test_an_unreadable_file_fails_and_is_taken_by_itself_once_it_is_readable(
    site: Site, server: ApiServer
) -> None:
    async with site.daemon(bound=True) as daemon:
        staged = tone(site.stage())
        staged.chmod(0)
        secret = site.put(staged, "secret.wav")
        assert await daemon.final(site, secret) == ["failed"]
        assert_says_why(site, daemon, secret, "source.unreadable")
        await assert_alive(site, daemon, server)
        assert (await site.tnfd("retry", secret)).code == 0  # too early: it says so again
        await daemon.event("job.failed", 2, file="secret.wav", code="source.unreadable")
        await daemon.final(site, secret)
        secret.chmod(0o600)
        await daemon.until(lambda: site.state_of(secret) == "done")
    assert len(list(site.inbox.glob("secret*"))) == 3
    assert len(server.requests) == 2


# -- files that move under its hands ----------------------------------------------------------------------


async def test_a_file_that_leaves_before_it_settles_leaves_nothing(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"settle_s": 2.0})
    async with site.daemon() as daemon:
        talk = tone(site.inbox / "talk.wav")
        await daemon.event("file.seen", file="talk.wav")
        talk.unlink()
        await assert_alive(site, daemon, server)
    assert not daemon.named("job.failed")
    assert sorted(path.name for path in site.inbox.iterdir()) == [
        "alive.txt",
        "alive.wav",
        "alive.wav.status.json",
    ]


async def test_a_file_that_leaves_while_it_is_prepared_leaves_nothing(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav", 300)
        await daemon.event("job.started", file="talk.wav")
        talk.unlink()
        await daemon.event("job.finished", file="talk.wav", state="vanished")
        assert server.requests == []
        await assert_alive(site, daemon, server)
    assert not daemon.named("job.failed")
    assert not site.status(talk)
    assert not (site.inbox / "talk.txt").exists()
    assert list((site.state / "scratch").iterdir()) == []


async def test_a_file_that_leaves_while_it_is_sent_is_not_paid_again_when_it_is_back(
    site: Site, server: ApiServer
) -> None:
    server.base_s = 0.5
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.until(lambda: any(request.received_at is not None for request in server.requests))
        away = talk.rename(site.base / "away.wav")
        await daemon.event("job.finished", state="vanished")
        assert not site.status(talk)
        assert not (site.inbox / "talk.txt").exists()
        away.rename(talk)
        assert await daemon.final(site, talk) == ["done"]
    assert len(server.requests) == 1


@pytest.mark.parametrize("moment", ["prepared", "sent"])
async def test_a_file_that_changes_under_way_is_taken_again_and_the_new_content_wins(
    site: Site, server: ApiServer, moment: str
) -> None:
    server.base_s = 0.5
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav", 120 if moment == "prepared" else 0.5, seed=1)
        await daemon.event("job.started")
        if moment == "sent":
            await daemon.until(lambda: any(request.received_at is not None for request in server.requests))
        new = tone(site.stage(), 0.75, seed=2)
        new.replace(talk)
        await daemon.until(lambda: site.state_of(talk) == "done")
        status = site.status(talk)
        assert status is not None
        assert status["source"]["sha256"] == sha256(talk)
        assert status["media"]["duration_s"] == 0.75
        assert status["failures"] == 0
        text = (site.inbox / status["outputs"]["txt"]["name"]).read_text()
        assert text == f"words of {server.requests[-1].sha256[:8]}\n"
        assert server.requests[-1].audio_s == pytest.approx(0.75, abs=0.05)
    assert len(list(site.inbox.glob("*.txt"))) == 1
    assert len(list(site.inbox.glob("*.status.json"))) == 1
    assert len(server.requests) == (1 if moment == "prepared" else 2)
    assert not daemon.named("job.failed")


# -- folders ----------------------------------------------------------------------------------------------


@needs_permissions
async def test_an_unwritable_output_folder_fails_after_retries_and_is_not_paid_again(
    site: Site, server: ApiServer
) -> None:
    site.configure(daemon={"max_attempts": 2}, inbox={"output_dir": str(site.base / "out")})
    out = site.base / "out"
    out.mkdir()
    out.chmod(0o555)
    async with site.daemon(bound=True) as daemon:
        talk = site.drop("talk.wav")
        failed = await daemon.event("job.failed")
        assert failed["code"] == "output.unwritable"
        assert failed["hint"] == CODES["output.unwritable"].hint
        assert (await daemon.event("job.retry"))["code"] == "output.unwritable"
        shown = (await site.tnfd("show", talk, "--json")).json
        assert shown["error"]["code"] == "output.unwritable"
        out.chmod(0o755)
        assert (await site.tnfd("retry", "--failed")).code == 0
        await daemon.event("job.finished", file="talk.wav", state="done")
        await daemon.until(lambda: (out / "talk.wav.status.json").exists())
    assert (out / "talk.txt").read_text().startswith("words of")
    assert len(server.requests) == 1


async def test_an_inbox_that_goes_away_and_comes_back(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        first = site.drop("first.wav", seed=1)
        await daemon.final(site, first)
        away = site.inbox.rename(site.base / "away")
        await daemon.event("inbox.lost")
        status = await site.tnfd("status", "--json")
        assert status.code == 0
        assert any("lost" in line for line in status.json["attention"])
        away.rename(site.inbox)
        second = site.drop("second.wav", seed=2)
        await daemon.event("inbox.back")
        assert await daemon.final(site, second) == ["done"]
    assert site.state_of(first) == "done"  # a lost root is never "vanished"
    assert len(server.requests) == 2


# -- servers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        pytest.param(SERVER_ERROR, "engine.server_error", id="500"),
        pytest.param(MALFORMED, "engine.bad_answer", id="malformed"),
        pytest.param(HTML, "engine.bad_answer", id="html"),
        pytest.param(Reset("answer"), "engine.unreachable", id="reset"),
        pytest.param(Reset("upload"), "engine.unreachable", id="reset-in-upload"),
        pytest.param(Hang(), "engine.timeout", id="hang"),
    ],
)
async def test_a_request_that_fails_is_tried_again_and_counted(
    site: Site, server: ApiServer, behaviour: Behaviour, code: str
) -> None:
    site.configure(engine={"timeout_s": 1.0})
    server.script(behaviour)
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        retry = await daemon.event("job.retry", file="talk.wav")
        assert (retry["code"], retry["failures"]) == (code, 1)
        assert 0 < retry["again_in_s"] <= 0.4
        assert await daemon.final(site, talk) == ["done"]
    status = site.status(talk)
    assert status is not None
    assert (status["failures"], status["error"]) == (1, None)
    assert len(server.requests) == 2
    assert not daemon.named("job.failed")


async def test_a_file_that_always_fails_is_given_up_and_tried_again_by_hand(
    site: Site, server: ApiServer
) -> None:
    """The server fails on this file alone, so it is the file; the others go through."""
    site.configure(daemon={"max_attempts": 3})
    healthy = site.poison(server)
    async with site.daemon() as daemon:
        bad = site.drop("bad.wav", 1.0)
        assert await daemon.final(site, bad) == ["failed"]
        assert await daemon.final(site, *healthy) == ["done"] * 3
        status = site.status(bad)
        assert status is not None
        assert (status["failures"], status["error"]["retryable"]) == (2, False)  # the third is final
        assert_says_why(site, daemon, bad, "engine.chokes")
        server.choose = None
        assert (await site.tnfd("retry", bad)).code == 0
        await daemon.until(lambda: site.state_of(bad) == "done")
        again = site.status(bad)
        assert again is not None
        assert (again["failures"], again["error"]) == (0, None)


async def test_a_server_that_asks_for_patience_gets_it_and_nothing_counts(
    site: Site, server: ApiServer
) -> None:
    server.script(Status(429, "rate_limit_exceeded", "requests", headers={"retry-after": "2"}))
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.event("engine.throttled")
        assert await daemon.final(site, talk) == ["done"]
    first, second = server.requests
    assert first.answered_at is not None
    assert second.started_at - first.answered_at >= 1.9
    status = site.status(talk)
    assert status is not None
    assert status["failures"] == 0
    assert not daemon.named("job.retry")


async def test_without_quota_the_engine_pauses(site: Site, server: ApiServer) -> None:
    server.always = NO_QUOTA
    async with site.daemon() as daemon:
        site.drop("talk.wav")
        paused = await daemon.event("engine.paused")
        assert paused["code"] == "engine.no_quota"
        await daemon.event("job.waiting", reason="engine_paused")
        assert not daemon.named("job.failed")
        assert not daemon.named("job.retry")


async def test_a_server_that_is_down_fails_nothing_and_is_found_again(site: Site) -> None:
    async with ApiServer() as server:
        port = int(server.url.split(":")[2].split("/")[0])
        site.url = server.url
        site.configure(engine={"max_concurrency": 2})
        async with site.daemon() as daemon:
            first = site.drop("first.wav", seed=1)
            await daemon.final(site, first)
            await server.__aexit__()
            talks = [site.drop(f"{n}.wav", seed=10 + n) for n in range(4)]
            paused = await daemon.event("engine.paused", code="engine.down")
            assert paused["hint"]
            await daemon.event("job.waiting", reason="engine_paused")
            status = (await site.tnfd("status", "--json")).json
            assert status["healthy"]
            assert status["engines"][0]["state"] == "paused"
            assert any("local is paused" in line for line in status["attention"])
            async with ApiServer(port=port) as again:
                await daemon.event("engine.resumed", timeout_s=20)
                assert set(await daemon.final(site, *talks)) == {"done"}
                assert len(again.requests) == 4
    assert not daemon.named("job.failed")
    # Two failures in a row may be the files' own; the third says that it is the server, and counts for none.
    assert sum((site.status(talk) or {})["failures"] for talk in talks) <= 2


async def test_a_rejected_option_is_left_out_and_costs_no_attempt(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"prompt": "Names: Ada", "formats": ["json"]})
    server.choose = lambda request: (
        Status(400, "unknown_parameter", message="Unknown parameter: 'prompt'", param="prompt")
        if "prompt" in request.fields
        else None
    )
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        assert await daemon.final(site, talk) == ["done"]
    assert len(server.requests) == 2
    assert not daemon.named("job.retry")


async def test_a_reached_budget_makes_jobs_wait_and_is_said_once(site: Site, server: ApiServer) -> None:
    site.config.write_text(
        site.config.read_text().replace("[engines.local]", "[budget]\ndaily_usd = 0.015\n\n[engines.local]")
        + "price_usd_per_minute = 0.01\n"
    )
    async with site.daemon() as daemon:
        first = site.drop("first.wav", 60, seed=1)
        assert await daemon.final(site, first) == ["done"]
        site.drop("second.wav", 61, seed=2)
        site.drop("third.wav", 62, seed=3)
        await daemon.event("job.waiting", 2, reason="budget")
        status = (await site.tnfd("status", "--json")).json
        assert status["healthy"]
        assert status["waiting"] == {"budget": 2}
        assert any("budget" in line for line in status["attention"])
        assert status["spent"]["today_usd"] == pytest.approx(0.01)
    assert len(daemon.named("budget.reached")) == 1
    assert len(server.requests) == 1
    assert not daemon.named("job.failed")
