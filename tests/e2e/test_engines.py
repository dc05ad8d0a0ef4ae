"""Engines that fail, are slow or limited, on the real daemon: who waits, who takes over, what nobody sees."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import PATIENCE_S, Daemon, Site
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import BAD_KEY, NO_QUOTA, SERVER_ERROR, Hang, Ok, Status, redirect
from tnfd.testing.limit import RateLimit

KEY = "sk-proj-Zq3vXw8TnfdSecret0123456789abcdef"


@pytest.fixture
async def spare() -> AsyncIterator[ApiServer]:
    async with ApiServer() as server:
        yield server


def engine(server: ApiServer, **more: Any) -> dict[str, Any]:
    return {"type": "openai", "model": "whisper-1", "base_url": server.url, "max_concurrency": 4, **more}


async def status_when(site: Site, fact: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What `status --json` says once that is so."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            status: dict[str, Any] = (await site.tnfd("status", "--json")).json
            if fact(status):
                return status


# -- preference -------------------------------------------------------------------------------------------


async def test_the_next_engine_takes_over_until_the_first_is_back(
    site: Site, server: ApiServer, spare: ApiServer
) -> None:
    site.configure(
        inbox={"engine": ["first", "second"]}, engines={"first": engine(server), "second": engine(spare)}
    )
    server.always = NO_QUOTA
    async with site.daemon() as daemon:
        talks = [site.drop(f"{number}.wav", seed=number) for number in range(3)]
        assert await daemon.final(site, *talks) == ["done"] * 3
        assert len(spare.requests) == 3
        refused = len(server.requests)
        for talk in talks:
            status = site.status(talk)
            assert status is not None
            assert status["engine"]["name"] == "second"
            assert status["engine"]["why"] == "first is paused: engine.no_quota"
            assert (status["failures"], status["waiting"]) == (0, None)
        assert "(first is paused: engine.no_quota)" in (await site.tnfd("show", talks[0])).out
        server.always = None
        assert (await site.tnfd("resume")).code == 0
        late = site.drop("late.wav", seed=9)
        assert await daemon.final(site, late) == ["done"]
        status = site.status(late)
        assert status is not None
        assert status["engine"] == {"name": "first", "type": "openai", "model": "whisper-1"}
        assert (await site.tnfd("pause", "first")).code == 0
        last = site.drop("last.wav", seed=10)
        assert await daemon.final(site, last) == ["done"]
        status = site.status(last)
        assert status is not None
        assert status["engine"]["why"] == "first is paused: engine.by_hand"
    assert len(server.requests) == refused + 1
    assert len(spare.requests) == 4


# -- is it the file, or the server? -----------------------------------------------------------------------


async def test_a_file_that_the_server_cannot_do_fails_alone(site: Site, server: ApiServer) -> None:
    healthy = site.poison(server)
    async with site.daemon() as daemon:
        poison = site.drop("poison.wav", seconds=1.0)
        assert await daemon.final(site, poison) == ["failed"]
        assert await daemon.final(site, *healthy) == ["done"] * 3
        assert not daemon.named("engine.paused")
    status = site.status(poison)
    assert status is not None
    assert status["error"]["code"] == "engine.chokes"


async def test_a_lone_file_waits_uncounted_for_a_server_that_is_down(site: Site, server: ApiServer) -> None:
    site.configure(daemon={"max_attempts": 3})
    server.always = SERVER_ERROR
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.event("engine.paused", code="engine.down")
        await status_when(site, lambda status: status["waiting"].get("engine_paused") == 1)
        (job,) = (await site.tnfd("jobs", "--json")).json
        assert (job["state"], job["failures"], job["waiting"]["detail"]) == ("queued", 0, "engine.down")
        server.always = None
        assert (await site.tnfd("resume")).code == 0
        assert await daemon.final(site, talk) == ["done"]
    status = site.status(talk)
    assert status is not None
    assert status["failures"] == 0
    assert len(server.requests) == 4


# -- rate and time ----------------------------------------------------------------------------------------


async def test_a_limit_is_learned_and_kept(site: Site, server: ApiServer) -> None:
    server.limit = RateLimit(300, tokens=3)
    async with site.daemon() as daemon:
        talks = [site.drop(f"{number}.wav", seed=number) for number in range(12)]
        assert await daemon.final(site, *talks) == ["done"] * 12
        (shown,) = (await site.tnfd("status", "--json")).json["engines"]
    assert shown["requests_per_minute"] == 300
    assert server.limit.refused <= 2


async def test_a_rate_written_down_is_kept(site: Site, server: ApiServer) -> None:
    site.configure(engine={"requests_per_minute": 150})
    async with site.daemon() as daemon:
        talks = [site.drop(f"{number}.wav", seed=number) for number in range(4)]
        assert await daemon.final(site, *talks) == ["done"] * 4
    starts = [request.started_at for request in server.requests]
    assert starts[-1] - starts[0] >= 3 * 0.4 - 0.1


async def test_a_hang_costs_one_timeout_and_nobody_else_anything(site: Site, server: ApiServer) -> None:
    site.configure(engine={"timeout_s": 1.0, "price_usd_per_minute": 0})
    server.script(Hang(), Hang(when="upload"))
    async with site.daemon() as daemon:
        talks = [site.drop(f"{number}.wav", seed=number) for number in range(5)]
        assert await daemon.final(site, *talks) == ["done"] * 5
    assert len(server.requests) == 7


# -- money ------------------------------------------------------------------------------------------------


async def test_a_reached_budget_makes_wait_and_says_until_when(site: Site, server: ApiServer) -> None:
    site.configure(engine={"price_usd_per_minute": 6.0})  # 0.5 s: 5 cents
    with site.config.open("a") as config:
        config.write("\n[budget]\ndaily_usd = 0.17\n")
    async with site.daemon() as daemon:
        for number in range(6):
            site.drop(f"{number}.wav", seed=number)
        await daemon.event("budget.reached")
        status = await status_when(
            site,
            lambda status: status["waiting"].get("budget") == 3 and status["counts"].get("done") == 3,
        )
        assert status["counts"]["failed"] == 0
        assert status["spent"]["today_usd"] == pytest.approx(0.15, abs=0.001)
        (row,) = status["spent"]["by_day"]
        assert (row["engine"], row["inbox"], row["requests"]) == ("local", "in", 3)
        books = (await site.tnfd("status", "--spent")).out
        assert "local" in books
        assert "$0.1500" in books
    assert len(server.requests) == 3


# -- secrets ----------------------------------------------------------------------------------------------


def command_lines(daemon: Daemon) -> list[str]:
    """What everybody on this machine sees of it and of its children."""
    found = []
    for pid in (daemon.pid, *(process.pid for process in daemon.look_around())):
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace"))
    return found


async def test_the_key_is_in_nothing_that_a_run_leaves(site: Site, server: ApiServer) -> None:
    """Refusals that quote the key, answers that hold it, a redirect that asks for it: a whole bad day."""
    keyfile = site.base / "key"
    keyfile.write_text(KEY + "\n")
    keyfile.chmod(0o600)
    site.configure(
        daemon={"log_level": "debug"},
        inbox={"formats": ["txt", "json", "md", "srt", "vtt"]},
        engine={"api_key_file": str(keyfile), "timeout_s": 1.0},
    )
    quoting = f"You sent Bearer {KEY}, which we do not like: {KEY[:14]}"
    said: list[str] = []
    async with site.daemon(sound=False) as daemon:
        server.script(
            Status(500, message=quoting), Ok(), Status(400, message=quoting), Hang(),
            Ok(headers={"x-echo": KEY}), redirect(f"http://127.0.0.1:9/{KEY}"),
        )  # fmt: skip
        for number in range(4):
            site.drop(f"{number}.wav", seed=number)
        await daemon.event("engine.paused")
        server.always = BAD_KEY
        said += [ran.out + ran.err for ran in [await site.tnfd("resume"), await site.tnfd("status")]]
        said += command_lines(daemon)
        os.kill(daemon.pid, 10)  # SIGUSR1: what each task waits for
        await daemon.event("daemon.dump")
        server.always = None
        await site.tnfd("resume")
        await daemon.event("job.finished", 2, state="done")
        for words in (
            ("status", "--json"), ("jobs", "--json"), ("config", "show"), ("config", "check"), ("doctor",),
            ("doctor", "--json"), ("show", str(site.inbox / "0.wav"), "--json"),
            ("batch", str(site.inbox), "--yes", "--redo", "--json"),
        ):  # fmt: skip
            ran = await site.tnfd(*words)
            said.append(ran.out + ran.err)
    said += [str(event) for event in daemon.events] + daemon.noise
    assert server.requests
    assert {request.authorization for request in server.requests} == {f"Bearer {KEY}"}
    secret = KEY[8:]  # no part of it either
    assert not [text for text in said if secret in text or KEY[:14] in text]
    for path in site.base.rglob("*"):
        if path.is_file() and path != keyfile:
            data = path.read_bytes()
            assert secret.encode() not in data, path
            assert KEY[:14].encode() not in data, path


async def test_a_key_goes_only_to_the_server_that_it_was_written_down_for(
    site: Site, server: ApiServer, spare: ApiServer
) -> None:
    keyfile = site.base / "key"
    keyfile.write_text(KEY)
    keyfile.chmod(0o600)
    site.configure(
        inbox={"engine": ["first", "second"]},
        engines={"first": engine(server, api_key_file=str(keyfile)), "second": engine(spare)},
    )
    server.always = redirect(f"{spare.url}/audio/transcriptions")
    async with site.daemon(env={"OPENAI_API_KEY": KEY + "-of-openai"}) as daemon:
        talk = site.drop("talk.wav")
        assert await daemon.final(site, talk) == ["done"]
    assert {request.authorization for request in server.requests} == {f"Bearer {KEY}"}
    assert len(spare.requests) == 1  # the second engine's own, not the redirect's
    assert KEY not in str(spare.requests[0].headers)
