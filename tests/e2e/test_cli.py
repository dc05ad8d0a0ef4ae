"""The commands as processes, beside a running daemon and without one."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.e2e.daemon import Daemon, Ran, Site, command
from tnfd.cli import app
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import SERVER_ERROR, Hang

PROMISED = {"init", "run", "batch", "status", "jobs", "show", "retry", "config", "config check",
            "config show", "config path", "demo"}  # fmt: skip
STATUS_KEYS = {"schema", "running", "healthy", "pid", "since", "instance", "attention", "inboxes", "counts",
               "waiting", "workers", "engines", "spent"}  # fmt: skip
STATES = {"settling", "queued", "running", "done", "partial", "failed", "duplicate", "cancelled", "vanished"}


def fits(text: str, columns: int = 80) -> bool:
    return all(len(line) <= columns for line in text.splitlines())


async def some_work(site: Site, server: ApiServer, daemon: Daemon) -> dict[str, Path]:
    """One of each: done, duplicate, failed."""
    server.choose = lambda request: SERVER_ERROR if request.audio_s > 0.9 else None
    sources = {"done": site.drop("talk.wav", seed=1), "failed": site.drop("bad/bad.wav", 1.0, seed=2)}
    await daemon.final(site, *sources.values())
    sources["duplicate"] = site.drop("copy.wav", seed=1)
    await daemon.final(site, *sources.values())
    return sources


# -- without anything -------------------------------------------------------------------------------------


def commands(group: Any, above: str = "") -> Iterator[str]:
    for name, one in group.commands.items():
        yield f"{above} {name}".strip()
        if hasattr(one, "commands"):
            yield from commands(one, f"{above} {name}".strip())


async def test_every_command_has_a_help_of_its_own(site: Site) -> None:
    async def helped(name: str) -> Ran:
        return await command(*name.split(), "--help", env=site.environ())

    names = list(commands(typer.main.get_command(app)))
    assert set(names) >= PROMISED
    async with asyncio.TaskGroup() as group:
        running = {name: group.create_task(helped(name)) for name in names}
    for name, task in running.items():
        ran = task.result()
        assert ran.code == 0, name
        assert name.split()[-1] in ran.out
        assert ran.err == ""
    top = await command("--help", env=site.environ())
    for name in names:
        assert f"  {name.split()[0]} " in top.out, name
    assert "tnfd init" in top.out


async def test_no_command_is_the_help_and_a_wrong_one_is_usage(site: Site) -> None:
    bare, wrong = await command(env=site.environ()), await command("frobnicate", env=site.environ())
    assert "Usage" in bare.out + bare.err
    assert wrong.code == 2
    assert "frobnicate" in wrong.err


async def test_the_shell_can_complete(site: Site) -> None:
    asked = {"_TNFD_COMPLETE": "complete_bash", "COMP_WORDS": "tnfd st", "COMP_CWORD": "1"}
    ran = await command("--show-completion", "bash", env=site.environ())
    assert ran.code == 0
    assert "_TNFD_COMPLETE" in ran.out or "complete" in ran.out
    found = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from tnfd.cli import app; app(prog_name='tnfd')",
        env=site.environ(asked), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await found.communicate()
    assert "status" in out.decode().split()


async def test_before_the_first_start_all_commands_answer(site: Site) -> None:
    status = await site.tnfd("status", "--json")
    assert (status.code, status.json["running"], status.json["healthy"]) == (3, False, False)
    listed = await site.tnfd("jobs", "--json")
    assert (listed.code, listed.json) == (0, [])
    assert "no jobs yet" in (await site.tnfd("jobs")).out.lower()
    shown = await site.tnfd("show", "nothing.wav")
    assert shown.code == 1
    assert "nothing.wav" in shown.err
    retried = await site.tnfd("retry", "--failed")
    assert retried.code == 0
    assert not site.state.exists(), "looking makes nothing"


# -- status -----------------------------------------------------------------------------------------------


async def test_status_of_a_running_daemon_is_healthy_and_whole(site: Site, server: ApiServer) -> None:
    server.script(Hang())
    async with site.daemon() as daemon:
        site.drop("talk.wav")
        await daemon.until(lambda: any(request.received_at is not None for request in server.requests))
        told, said = await site.tnfd("status", "--json"), await site.tnfd("status")
        daemon.send_twice()
        await daemon.ended()
    assert (told.code, said.code) == (0, 0)
    status = told.json
    assert set(status) >= STATUS_KEYS
    assert status["schema"] == "tnfd.daemon/1"
    assert (status["running"], status["healthy"], status["pid"]) == (True, True, daemon.pid)
    assert set(status["counts"]) == STATES
    assert status["counts"]["running"] == 1
    assert status["workers"] == {"busy": 1, "total": 5}
    (inbox,) = status["inboxes"]
    assert inbox["path"] == str(site.inbox)
    assert (inbox["name"], inbox["state"]) == ("in", "watching")
    assert inbox["mode"] in ("events", "scan")
    (engine,) = status["engines"]
    assert (engine["name"], engine["type"], engine["model"]) == ("local", "openai", "whisper-1")
    assert (engine["state"], engine["in_flight"]) == ("ok", 1)
    assert status["spent"] == {"today_usd": 0.0, "month_usd": 0.0, "until": None, "by_day": []}
    assert status["attention"] == []
    assert "healthy" in said.out
    assert str(daemon.pid) in said.out
    assert "local" in said.out


async def test_status_of_a_stopped_daemon_exits_3_and_still_counts(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        await daemon.final(site, site.drop("talk.wav"))
    told, said = await site.tnfd("status", "--json"), await site.tnfd("status")
    assert (told.code, said.code) == (3, 3)
    assert set(told.json) >= STATUS_KEYS
    assert (told.json["running"], told.json["pid"]) == (False, None)
    assert told.json["counts"]["done"] == 1
    assert "not running" in said.out
    assert "tnfd run" in said.out


async def test_a_daemon_that_hangs_is_not_healthy(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        daemon.freeze()
        ran = await site.tnfd("status", "--json")
        daemon.thaw()
        assert (ran.code, ran.json["running"], ran.json["healthy"]) == (3, True, False)
        assert ran.json["pid"] == daemon.pid
        assert any("does not answer" in line for line in ran.json["attention"])


# -- jobs and show ----------------------------------------------------------------------------------------


async def test_jobs_lists_newest_first_and_filters(site: Site, server: ApiServer) -> None:
    second = site.base / "second"
    second.mkdir()
    site.configure(daemon={"max_attempts": 1}, more_inboxes=[{"path": str(second), "name": "other"}])
    async with site.daemon() as daemon:
        sources = await some_work(site, server, daemon)
        await daemon.final(site, site.drop("elsewhere.wav", seed=5, into=second))
    everything = (await site.tnfd("jobs", "--json")).json
    assert [job["source"]["name"] for job in everything][:2] == ["elsewhere.wav", "copy.wav"]
    assert len(everything) == 4
    ids = [job["job"] for job in everything]
    assert ids == sorted(ids, reverse=True)
    for job in everything:
        assert {"path", "inbox", "state", "schema", "error", "usage"} <= set(job)
    failed = (await site.tnfd("jobs", "--state", "failed", "--json")).json
    assert [job["path"] for job in failed] == [str(sources["failed"])]
    assert failed[0]["error"]["code"] == "engine.server_error"
    others = (await site.tnfd("jobs", "--inbox", "other", "--json")).json
    assert [job["inbox"] for job in others] == ["other"]
    assert len((await site.tnfd("jobs", "--limit", "2", "--json")).json) == 2
    wrong = await site.tnfd("jobs", "--state", "frobnicated")
    assert wrong.code == 2
    assert "duplicate" in wrong.err  # names those there are
    said = await site.tnfd("jobs")
    assert said.code == 0
    for word in ("talk.wav", "bad.wav", "copy.wav", "elsewhere.wav", "engine.server_error"):
        assert word in said.out
    assert fits(said.out), said.out


async def test_show_tells_the_whole_story_by_path_id_and_prefix(site: Site, server: ApiServer) -> None:
    site.configure(daemon={"max_attempts": 2})
    async with site.daemon() as daemon:
        sources = await some_work(site, server, daemon)
        job = (site.status(sources["failed"]) or {})["job"]
        for name in (sources["failed"], job, job[:-2]):
            ran = await site.tnfd("show", name, "--json")
            assert ran.code == 0, name
            assert ran.json["job"] == job
    told = (await site.tnfd("show", job, "--json")).json
    assert [entry["event"] for entry in told["history"]] == [
        "seen", "queued", "started", "retry", "started", "failed",
    ]  # fmt: skip
    assert all(set(entry) == {"at", "event", "detail"} for entry in told["history"])
    assert told["path"] == str(sources["failed"])
    said = await site.tnfd("show", job)
    for word in (str(sources["failed"]), job, "engine.server_error", "tnfd retry"):
        assert word in said.out
    done = await site.tnfd("show", sources["done"])
    for word in ("done", "talk.txt", "whisper-1", "1 request"):
        assert word in done.out
    copy = await site.tnfd("show", sources["duplicate"])
    assert str(sources["done"]) in copy.out


async def test_show_of_something_unknown_says_so(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        first, second = site.drop("one.wav", seed=1), site.drop("two.wav", seed=2)
        await daemon.final(site, first, second)
    for name in ("nothing.wav", "01ARZ3NDEKTSV4RRFFQ69G5FAV", ""):
        ran = await site.tnfd("show", name)
        assert ran.code == 1
        assert "no job" in ran.err
        assert ran.out == ""
    ids = [(site.status(source) or {})["job"] for source in (first, second)]
    common = next(ids[0][:n] for n in range(26, 0, -1) if ids[1].startswith(ids[0][:n]))
    assert len(common) >= 4  # both begin with the day
    ambiguous = await site.tnfd("show", common)
    assert ambiguous.code == 1
    assert "2 jobs" in ambiguous.err


# -- retry ------------------------------------------------------------------------------------------------


async def test_retry_by_file_wakes_a_running_daemon(site: Site, server: ApiServer) -> None:
    site.configure(daemon={"max_attempts": 1})
    async with site.daemon() as daemon:
        sources = await some_work(site, server, daemon)
        server.choose = None
        ran = await site.tnfd("retry", sources["failed"])
        assert ran.code == 0
        assert "bad.wav" in ran.out
        await daemon.until(lambda: site.state_of(sources["failed"]) == "done", timeout_s=5)
        again = await site.tnfd("retry", sources["failed"])
        assert again.code == 1
        assert "done" in again.out + again.err


async def test_retry_of_what_failed_while_the_daemon_is_stopped(site: Site, server: ApiServer) -> None:
    site.configure(daemon={"max_attempts": 1})
    async with site.daemon() as daemon:
        sources = await some_work(site, server, daemon)
    ran = await site.tnfd("retry", "--failed")
    assert ran.code == 0
    assert "bad.wav" in ran.out
    assert "talk.wav" not in ran.out
    shown = (await site.tnfd("show", sources["failed"], "--json")).json
    assert (shown["state"], shown["failures"], shown["error"]) == ("queued", 0, None)
    server.choose = None
    async with site.daemon() as daemon:
        await daemon.until(lambda: site.state_of(sources["failed"]) == "done")


async def test_retry_of_nothing_is_usage_and_of_something_unknown_an_error(site: Site) -> None:
    assert (await site.tnfd("retry")).code == 2
    unknown = await site.tnfd("retry", "nothing.wav")
    assert unknown.code == 1
    assert "nothing.wav" in unknown.err


# -- configuration ----------------------------------------------------------------------------------------


async def test_config_check_show_and_path(site: Site) -> None:
    site.configure(daemon={"workers": 3})
    checked = await site.tnfd("config", "check")
    assert checked.code == 0
    assert checked.out.startswith("ok")
    shown = await site.tnfd("config", "show")
    assert tomllib.loads(shown.out)["daemon"]["workers"] == 3
    found = await site.tnfd("config", "path")
    assert found.out.strip() == str(site.config)
    site.configure(daemon={"workers": "many"})
    broken = await site.tnfd("config", "check")
    assert broken.code == 78
    assert "workers" in broken.err


async def test_the_daemon_logs_what_config_check_warns_of(site: Site, server: ApiServer) -> None:
    site.configure(engine={"model": "gpt-transcribe"})
    checked = await site.tnfd("config", "check", env={"TNFD_WORKER": "3"})
    async with site.daemon(env={"TNFD_WORKER": "3"}) as daemon:
        await daemon.event("daemon.ready")
        logged = daemon.named("config.warning", level="warning")
    assert [f"warning: {event['reason']}" for event in logged] == checked.err.splitlines()
    assert len(logged) == 2


async def test_commands_work_while_an_inbox_is_away(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.final(site, talk)
    site.inbox.rename(site.base / "away")
    for arguments, code in ((("status",), 3), (("jobs",), 0), (("show", talk), 0)):
        assert (await site.tnfd(*arguments)).code == code, arguments


async def test_json_is_all_that_is_on_stdout(site: Site, server: ApiServer) -> None:
    """A name with a line break and colours in it stays one JSON text, and harmless on a terminal."""
    async with site.daemon() as daemon:
        nasty = site.drop("a\x1b[31mred\nline.wav")
        await daemon.final(site, nasty)
        await daemon.stop()
    for arguments in (("jobs", "--json"), ("show", nasty, "--json"), ("status", "--json")):
        ran = await site.tnfd(*arguments)
        assert json.loads(ran.out) is not None
        assert ran.err == ""
    for words in (("jobs",), ("show", nasty), ("status",)):
        ran = await site.tnfd(*words)
        assert "\x1b" not in ran.out
    assert all("\x1b" not in event.get("file", "") for event in daemon.events)


async def test_a_reader_that_leaves_early_gets_no_traceback(site: Site, server: ApiServer) -> None:
    """`tnfd jobs | head -1`."""
    async with site.daemon() as daemon:
        await daemon.final(site, site.drop("talk.wav"))
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", f"'{sys.executable}' -m tnfd jobs --config '{site.config}' | true",
        env=site.environ(), stderr=asyncio.subprocess.PIPE, cwd=site.base,
    )  # fmt: skip
    _, err = await process.communicate()
    assert err == b""


# -- demo -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("pocketsphinx") is None, reason="the extra sphinx is missing")
async def test_the_demo_shows_a_transcript_without_key_or_network(site: Site) -> None:
    ran = await command("demo", env=site.environ())
    assert ran.code == 0, ran.out + ran.err
    for word in ("hello.mp3", "hello.txt", '"state": "done"', '"draft"', "embedded engine", "tnfd init"):
        assert word in ran.out
    assert fits(ran.out), ran.out
    *_, transcript, last = ran.out.strip().split("\n\n")
    assert "every recording" in transcript, "it stays in sight"
    assert "tnfd init" in last
    ignored = await command("demo", "--config", "/nowhere", "--help", env=site.environ())
    assert "--config is not used" in " ".join(ignored.out.split())
    assert ran.err == ""
