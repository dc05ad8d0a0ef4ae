"""Commands on a daemon that runs: what they do to requests under way, to what waits, and to what is done."""

from __future__ import annotations

import json

from tests.e2e.daemon import Daemon, Site, sha256
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import BAD_KEY, Hang, Ok


async def in_flight(daemon: Daemon, server: ApiServer, count: int = 1) -> None:
    """Return once the server has whole uploads that it has not answered."""
    await daemon.until(
        lambda: sum(r.received_at is not None and r.answered_at is None for r in server.requests) >= count,
        f"{count} requests are in flight",
    )


async def test_cancel_ends_the_request_that_is_under_way(site: Site, server: ApiServer) -> None:
    server.script(Hang())
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await in_flight(daemon, server)
        ran = await site.tnfd("cancel", talk)
        assert (ran.code, ran.out) == (0, "in/talk.wav: cancelled\n"), ran.err
        await daemon.event("job.finished", state="cancelled")
        # The client hung up: nothing else ends a Hang.
        await server.until(lambda server: server.load.current == 0)
        await daemon.until(lambda: site.state_of(talk) == "cancelled")
        assert not (site.inbox / "talk.txt").exists()
        # Its worker is free again.
        other = site.drop("other.wav", seed=1)
        assert await daemon.final(site, other) == ["done"]
        again = await site.tnfd("cancel", talk)
        assert again.code == 1
        assert "nothing to cancel, it is cancelled" in again.err
        assert (await site.tnfd("retry", talk)).code == 0
        await daemon.until(lambda: site.state_of(talk) == "done")
    assert len(server.requests) == 3


async def test_a_copy_that_waits_for_a_cancelled_job_does_the_work(site: Site, server: ApiServer) -> None:
    server.script(Hang())
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav", seed=7)
        await in_flight(daemon, server)
        copy = site.drop("copy.wav", seed=7)
        await daemon.event("job.queued", 2)
        assert (await site.tnfd("cancel", talk)).code == 0
        assert await daemon.final(site, copy) == ["done"]
    assert len(server.requests) == 2


async def test_pause_lets_what_is_under_way_finish_and_begins_nothing(site: Site, server: ApiServer) -> None:
    server.base_s = 0.8
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await in_flight(daemon, server)
        assert (await site.tnfd("pause")).code == 0
        assert await daemon.final(site, talk) == ["done"]
        late = site.drop("late.wav", seed=1)
        await daemon.event("job.queued", 2)
        status = (await site.tnfd("status", "--json")).json
        assert status["healthy"]
        assert status["waiting"] == {"paused": 1}
        assert any("tnfd resume" in said for said in status["attention"])
        (job, _) = (await site.tnfd("jobs", "--json")).json
        assert job["path"] == str(late)
        assert job["waiting"]["reason"] == "paused"
        assert len(server.requests) == 1
        assert (await site.tnfd("resume")).code == 0
        assert await daemon.final(site, late) == ["done"]
    assert len(server.requests) == 2


async def test_a_pause_outlives_the_daemon(site: Site, server: ApiServer) -> None:
    assert (await site.tnfd("pause")).code == 0
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.event("job.queued")
    async with site.daemon() as daemon:
        assert (await site.tnfd("status", "--json")).json["waiting"] == {"paused": 1}
        assert server.requests == []
        assert (await site.tnfd("resume")).out == "everything: resumed\n"
        assert await daemon.final(site, talk) == ["done"]


async def test_one_engine_is_paused_by_hand_and_never_probed(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        assert (await site.tnfd("pause", "local")).code == 0
        talk = site.drop("talk.wav")
        await daemon.event("job.queued")
        status = (await site.tnfd("status", "--json")).json
        (engine,) = status["engines"]
        assert (engine["state"], engine["reason"], engine["until"]) == ("paused", "engine.by_hand", None)
        assert status["waiting"] == {"engine_paused": 1}
        assert server.requests == []
        resumed = await site.tnfd("resume", "local")
        assert resumed.out == "engine local: resumed\n"
        assert await daemon.final(site, talk) == ["done"]
        assert (await site.tnfd("pause", "remote")).code == 2


async def test_resume_probes_an_engine_at_once_that_was_paused_by_a_bad_key(
    site: Site, server: ApiServer
) -> None:
    server.script(BAD_KEY)
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.event("engine.paused")
        await daemon.event("job.waiting")
        status = (await site.tnfd("status", "--json")).json
        assert status["engines"][0]["state"] == "paused"
        assert "tried at once" in (await site.tnfd("resume")).out
        assert await daemon.final(site, talk) == ["done"]


async def test_redo_pays_again_and_replaces_what_nobody_has_edited(site: Site, server: ApiServer) -> None:
    site.configure(engine={"price_usd_per_minute": 0.006}, inbox={"formats": ["txt", "json"]})
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav", 2.0)
        await daemon.final(site, talk)
        (site.inbox / "talk.json").write_text('{"edited": true}')
        before = site.status(talk)
        assert before is not None
        dry = await site.tnfd("redo", talk, "--dry-run")
        assert (dry.code, len(server.requests)) == (0, 1)
        assert "1 file, about 2 s of audio, about $0.0002; local (whisper-1)" in dry.out
        refused = await site.tnfd("redo", talk)
        assert (refused.code, len(server.requests)) == (2, 1)
        assert "--yes" in refused.err
        server.script(Ok("better words"))
        assert (await site.tnfd("redo", talk, "--yes")).code == 0
        await daemon.event("job.finished", 2)
        await daemon.until(lambda: (site.status(talk) or {}).get("timing") != before["timing"])
        await daemon.until(lambda: site.state_of(talk) == "done")
    assert len(server.requests) == 2
    after = site.status(talk)
    assert after is not None
    assert after["job"] == before["job"]
    assert after["outputs"]["txt"]["name"] == "talk.txt"
    assert after["outputs"]["txt"]["sha256"] == sha256(site.inbox / "talk.txt")
    assert after["outputs"]["json"]["name"] == "talk (2).json"
    assert json.loads((site.inbox / "talk.json").read_text()) == {"edited": True}


async def test_redo_of_copies_pays_once(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav", seed=7)
        await daemon.final(site, talk)
        copy = site.drop("copy.wav", seed=7)
        assert await daemon.final(site, copy) == ["duplicate"]
        redone = await site.tnfd("redo", "--inbox", "in")
        assert redone.code == 0, redone.err
        assert "the same content again" in redone.out
        await daemon.event("job.duplicate", 2)
        await daemon.event("job.finished", 2)
    assert len(server.requests) == 2


async def test_forget_removes_what_is_kept_and_not_what_was_written(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav", seed=7)
        await daemon.final(site, talk)
        assert (await site.tnfd("forget", talk)).out == "in/talk.wav: forgotten\n"
        assert (await site.tnfd("jobs", "--json")).json == []
        assert (site.inbox / "talk.txt").exists()
    async with site.daemon() as daemon:  # a whole scan finds the file
        other = site.drop("other.wav", seed=8)
        await daemon.final(site, other)
        assert len((await site.tnfd("jobs", "--json")).json) == 1
        copy = site.drop("copy.wav", seed=7)  # the text is gone, so this costs
        assert await daemon.final(site, copy) == ["done"]
    assert len(server.requests) == 3


async def test_what_is_at_work_is_not_forgotten(site: Site, server: ApiServer) -> None:
    server.script(Hang())
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await in_flight(daemon, server)
        refused = await site.tnfd("forget", talk)
        assert refused.code == 1
        assert "it is running; first run: tnfd cancel" in refused.err
        assert (await site.tnfd("cancel", talk)).code == 0
        assert (await site.tnfd("forget", talk)).code == 0
        await daemon.event("control", command="forget")
    assert [entry.name for entry in (site.state / "scratch").iterdir()] == []
