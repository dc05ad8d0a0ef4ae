"""SIGHUP on the real daemon: the new configuration holds, work in progress goes on, a bad one is refused."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon, Event, Site
from tests.e2e.test_stop import in_flight
from tnfd.clock import SystemClock
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import Ok

HELD = Ok(delay_s=3600.0)  # until the gate opens


class Gate(SystemClock):
    """The server's clock: what takes an hour ends as soon as the gate is open."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def sleep(self, delay_s: float) -> None:
        if delay_s >= 3600:
            await self.opened.wait()
        else:
            await super().sleep(delay_s)


@pytest.fixture
async def gate() -> Gate:
    return Gate()


@pytest.fixture
async def server(gate: Gate) -> AsyncIterator[ApiServer]:
    async with ApiServer(clock=gate) as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, server: ApiServer) -> Site:
    return Site(tmp_path, server.url)


async def reload(daemon: Daemon, count: int = 1) -> Event:
    daemon.send(signal.SIGHUP)
    return await daemon.event("config.reloaded", count)


async def attention(site: Site) -> str:
    ran = await site.tnfd("status", "--json")
    return " ".join(ran.json["attention"])


async def test_an_inbox_that_is_added_is_watched(site: Site, server: ApiServer) -> None:
    more = site.base / "more"
    more.mkdir()
    waiting = site.drop("waiting.wav", seed=1, into=more)
    async with site.daemon() as daemon:
        site.configure(more_inboxes=[{"path": str(more)}])
        told = await reload(daemon)
        assert "inbox more" in str(told["changed"])
        late = site.drop("late.wav", seed=2, into=more)
        first = site.drop("first.wav", seed=3)
        assert set(await daemon.final(site, waiting, late, first)) == {"done"}


async def test_formats_hold_for_files_seen_afterwards(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        before = site.drop("before.wav", seed=1)
        assert await daemon.final(site, before) == ["done"]
        site.configure(inbox={"formats": ["md"]})
        await reload(daemon)
        after = site.drop("after.wav", seed=2)
        assert await daemon.final(site, after) == ["done"]
    names = {path.name for path in site.inbox.iterdir() if path.suffix in (".txt", ".md")}
    assert names == {"before.txt", "after.md"}
    assert len(server.requests) == 2


async def test_work_in_progress_is_neither_lost_nor_restarted(
    site: Site, server: ApiServer, gate: Gate
) -> None:
    """Everything about it changes meanwhile: its inbox is dropped, its engine is another, workers shrink."""
    server.script(HELD)
    other = site.base / "other"
    other.mkdir()
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await in_flight(daemon, server)
        site.configure(
            daemon={"workers": 1},
            inbox={"path": str(other)},
            engine={"timeout_s": 77.0, "max_concurrency": 1},
        )
        told = await reload(daemon)
        changed = str(told["changed"])
        assert "daemon.workers" in changed
        assert "engines.local.timeout_s" in changed
        gate.opened.set()
        assert await daemon.final(site, talk) == ["done"]
        assert len(server.requests) == 1
        assert len(daemon.named("job.started")) == 1
        late = site.drop("late.wav", seed=2)  # nobody watches this folder any more
        new = site.drop("new.wav", seed=3, into=other)
        assert await daemon.final(site, new) == ["done"]
        assert site.state_of(late) == ""
        assert not daemon.named("file.seen", file="late.wav")


async def test_a_bad_configuration_is_refused_and_status_says_so(site: Site, server: ApiServer) -> None:
    async with site.daemon(sound=False) as daemon:
        good = site.config.read_text()
        site.config.write_text(good + "\n[budget]\ndaily_usd = -1\nmonthy_usd = 3\n")
        daemon.send(signal.SIGHUP)
        refused = await daemon.event("config.refused", 2)
        assert "monthy_usd" in str(daemon.named("config.refused"))
        assert refused["level"] == "error"
        assert "refused" in await attention(site)
        talk = site.drop("talk.wav")
        assert await daemon.final(site, talk) == ["done"]
        site.config.write_text(good)
        await reload(daemon)
        assert "refused" not in await attention(site)


async def test_the_state_folder_cannot_change(site: Site, server: ApiServer) -> None:
    async with site.daemon(sound=False) as daemon:
        site.configure(daemon={"state_dir": str(site.base / "elsewhere")})
        daemon.send(signal.SIGHUP)
        refused = await daemon.event("config.refused")
        assert "restart" in refused["reason"]
        assert daemon.alive


async def test_an_inbox_that_is_lost_does_not_stop_a_reload(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        away = site.inbox.rename(site.base / "away")
        await daemon.event("inbox.lost")
        site.configure(daemon={"workers": 2})
        told = await reload(daemon)
        assert told["workers"] == 2
        away.rename(site.inbox)
        talk = site.drop("talk.wav")
        assert await daemon.final(site, talk) == ["done"]


async def test_workers_grow_and_shrink(site: Site, server: ApiServer, gate: Gate) -> None:
    site.configure(daemon={"workers": 1}, engine={"max_concurrency": 1})
    async with site.daemon() as daemon:
        for number, workers in enumerate((4, 1, 3)):
            site.configure(daemon={"workers": workers}, engine={"max_concurrency": workers})
            await reload(daemon, number + 1)
            gate.opened.clear()
            server.script(*[HELD] * 4)
            began = len(server.requests)
            talks = [site.drop(f"{number}-{n}.wav", seed=10 * number + n) for n in range(4)]
            await daemon.until(lambda: len(server.requests) == began + workers)  # noqa: B023
            gate.opened.set()
            assert set(await daemon.final(site, *talks)) == {"done"}
            assert _most_at_once(server, began) == workers


def _most_at_once(server: ApiServer, began: int) -> int:
    moments: list[tuple[float, int]] = []
    for request in server.requests[began:]:
        assert request.answered_at is not None
        moments += [(request.started_at, 1), (request.answered_at, -1)]
    most = now = 0
    for _, step in sorted(moments):
        now += step
        most = max(most, now)
    return most


async def test_the_log_level_changes(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        (site.inbox / "note.doc").write_text("no recording")
        site.configure(daemon={"log_level": "debug"})
        await reload(daemon)
        (site.inbox / "other.doc").write_text("no recording")
        await daemon.event("file.ignored", file="other.doc")
    assert not daemon.named("file.ignored", file="note.doc", level="info")
