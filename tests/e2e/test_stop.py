"""Stopping the real daemon: what is finished, what is given back, what is left behind (nothing)."""

from __future__ import annotations

import os
import signal

from tests.e2e.daemon import Daemon, Site, command
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import Hang, Ok


async def in_flight(daemon: Daemon, server: ApiServer) -> None:
    """Return once the server has a whole upload that it has not answered."""
    await daemon.until(
        lambda: any(r.received_at is not None and r.answered_at is None for r in server.requests),
        "a request is in flight",
    )


async def assert_left_nothing(site: Site, daemon: Daemon) -> None:
    assert await daemon.orphans() == []
    assert site.litter() == []
    assert not (site.state / "daemon.sock").exists()


async def test_sigterm_lets_what_is_in_flight_finish(site: Site, server: ApiServer) -> None:
    server.base_s = 0.8
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await in_flight(daemon, server)
        assert daemon.look_around()
        assert await daemon.stop() == 0
    assert site.state_of(talk) == "done"
    assert (site.inbox / "talk.txt").exists()
    assert daemon.named("daemon.stopping")[0]["in_work"] == 1
    await assert_left_nothing(site, daemon)


async def test_while_it_drains_nothing_new_is_begun(site: Site, server: ApiServer) -> None:
    server.base_s = 0.8
    site.configure(daemon={"workers": 1}, engine={"max_concurrency": 1})
    async with site.daemon() as daemon:
        talks = [site.drop(f"{n}.wav", seed=n) for n in range(8)]
        await daemon.event("job.queued", 8)
        await in_flight(daemon, server)
        begun = len(daemon.named("job.started"))
        daemon.send(signal.SIGTERM)
        await daemon.event("daemon.stopping")
        late = site.drop("late.wav", seed=99)
        assert await daemon.ended() == 0
    assert len(daemon.named("job.started")) == begun
    done = [talk for talk in talks if site.state_of(talk) == "done"]
    assert 1 <= len(done) <= begun
    async with site.daemon() as daemon:
        server.base_s = 0.0
        assert set(await daemon.final(site, *talks, late)) == {"done"}
    assert len(server.requests) == 9


async def test_after_the_grace_time_work_is_given_back_and_done_by_the_next(
    site: Site, server: ApiServer
) -> None:
    site.configure(daemon={"shutdown_grace_s": 0.3})
    server.script(Hang())
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await in_flight(daemon, server)
        daemon.look_around()
        assert await daemon.stop() == 0
    assert daemon.named("job.released", file="talk.wav", state="queued")
    assert not (site.inbox / "talk.txt").exists()
    await assert_left_nothing(site, daemon)
    async with site.daemon() as daemon:
        assert await daemon.final(site, talk) == ["done"]
    status = site.status(talk)
    assert status is not None
    assert status["failures"] == 0
    assert len(server.requests) == 2


async def test_a_second_sigterm_stops_at_once(site: Site, server: ApiServer) -> None:
    server.script(Hang())
    async with site.daemon() as daemon:
        site.drop("talk.wav")
        await in_flight(daemon, server)
        daemon.look_around()
        daemon.send(signal.SIGTERM)
        await daemon.event("daemon.stopping", grace_s=25.0)
        assert await daemon.stop(timeout_s=5) == 0
    assert daemon.named("daemon.aborting")
    await assert_left_nothing(site, daemon)


async def test_sigterm_before_it_is_ready_stops_it_as_well(site: Site, server: ApiServer) -> None:
    """However early: from the moment on at which it answers signals at all."""
    for at in ("inbox.watching", "daemon.ready"):
        async with site.daemon(ready=False) as daemon:
            await daemon.event(at)
            assert await daemon.stop(timeout_s=10) == 0


async def test_ctrl_c_drains_and_exits_130(site: Site, server: ApiServer) -> None:
    server.base_s = 0.5
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await in_flight(daemon, server)
        assert await daemon.stop(signal.SIGINT) == 130
    assert site.state_of(talk) == "done"


async def test_ctrl_c_in_a_terminal_reaches_the_children_and_still_finishes(
    site: Site, server: ApiServer
) -> None:
    """A terminal sends SIGINT to the whole group; children that died of it would fail the file."""
    server.base_s = 0.5
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav", 60)
        await daemon.event("job.started")
        await daemon.until(daemon.look_around)
        group = os.getpgid(daemon.pid)
        for process in daemon.look_around():
            if os.getpgid(process.pid) == group:
                process.send_signal(signal.SIGINT)
        assert await daemon.stop(signal.SIGINT) == 130
    assert site.state_of(talk) == "done"
    await assert_left_nothing(site, daemon)


async def test_sigusr1_says_what_every_task_waits_for(site: Site, server: ApiServer) -> None:
    server.script(Hang())
    async with site.daemon() as daemon:
        site.drop("talk.wav")
        await in_flight(daemon, server)
        daemon.send(signal.SIGUSR1)
        job = (await daemon.event("job.started"))["job"]
        await daemon.event("daemon.dump", task=f"job {job}")
        tasks = {event["task"]: event["waits_at"] for event in daemon.named("daemon.dump")}
        assert {"queue", "controls", "status-files", "beacon", "queue.feed"} <= set(tasks)
        assert any("transcribe.py" in line for line in tasks[f"job {job}"])
        daemon.send(signal.SIGTERM)
        await daemon.event("daemon.stopping")
        await daemon.stop()


async def test_a_second_daemon_is_turned_away(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        ran = await site.tnfd("run")
        assert ran.code == 75
        assert str(daemon.pid) in ran.err
        assert "Traceback" not in ran.err
        talk = site.drop("talk.wav")
        assert await daemon.final(site, talk) == ["done"]


async def test_killed_it_leaves_no_children_and_the_next_one_starts(site: Site, server: ApiServer) -> None:
    server.script(Hang(), Ok())
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await in_flight(daemon, server)
        assert daemon.look_around()
        assert await daemon.stop(signal.SIGKILL) == -9
    assert await daemon.orphans() == []
    ran = await site.tnfd("status", "--json")
    assert (ran.code, ran.json["running"], ran.json["pid"]) == (3, False, None)
    async with site.daemon() as daemon:
        assert await daemon.final(site, talk) == ["done"]


async def test_a_closed_log_does_not_end_it(site: Site, server: ApiServer) -> None:
    """Whoever read the log is gone, as when a terminal closes; work goes on."""
    async with site.daemon() as daemon:
        daemon.hang_up()
        talk = site.drop("talk.wav")
        await daemon.until(lambda: site.state_of(talk) == "done")
        assert await daemon.stop() == 0


async def test_a_corrupt_database_ends_it_with_a_sentence(site: Site, server: ApiServer) -> None:
    async with site.daemon():
        pass
    assert sorted(path.name for path in site.state.glob("tnfd.sqlite3*")) == [
        "tnfd.sqlite3"
    ]  # one file, whole
    (site.state / "tnfd.sqlite3").write_bytes(b"this is not a database, " * 1000)
    ran = await command("run", "--config", site.config, env=site.environ())
    assert ran.code == 1
    assert "tnfd.sqlite3" in ran.err
    assert "Traceback" not in ran.err
