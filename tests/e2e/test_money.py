"""Money at first sight: what is never paid, or never paid again, whatever happens to the state folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Site, sha256
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import Status
from tnfd.testing.records import Request


def lose_state(site: Site) -> None:
    shutil.rmtree(site.state)


def status_of(site: Site, source: Path) -> dict[str, Any]:
    status = site.status(source)
    assert status is not None
    return status


def files_of(site: Site) -> dict[str, str]:
    """Everything in the inbox but status files, by content."""
    return {
        str(path.relative_to(site.inbox)): sha256(path)
        for path in site.inbox.rglob("*")
        if path.is_file() and not path.name.endswith(".status.json")
    }


async def run_once(site: Site, *sources: Path) -> list[str]:
    """Start the daemon, wait for jobs of its own to be final, stop it."""
    async with site.daemon() as daemon:
        await daemon.until(lambda: len(daemon.named("job.finished")) + len(daemon.named("job.duplicate"))
                           == len(sources))  # fmt: skip
        # What lies there may still be what an earlier daemon wrote.
        fresh = {event["job"] for event in daemon.events if "job" in event}
        await daemon.until(lambda: all((site.status(one) or {}).get("job") in fresh for one in sources))
        states = await daemon.final(site, *sources)
        assert await daemon.stop() == 0
    return states


# -- adopted status files ---------------------------------------------------------------------------------


async def test_a_lost_state_folder_is_not_paid_for(site: Site, server: ApiServer) -> None:
    talk, other = site.drop("talk.wav", seed=1), site.drop("deep/other.wav", seed=2)
    copy = site.drop("copy.wav", seed=1)
    assert sorted(await run_once(site, talk, other, copy)) == ["done", "done", "duplicate"]
    paid, before, first = len(server.requests), files_of(site), status_of(site, talk)
    lose_state(site)
    assert await run_once(site, talk, other, copy) == ["done", "done", "done"]
    assert len(server.requests) == paid == 2
    assert files_of(site) == before
    status = status_of(site, talk)
    assert status["job"] != first["job"]
    assert status["outputs"] == first["outputs"]
    assert status["usage"] == {"audio_s": 0.0, "requests": 0, "uploaded_bytes": 0, "cost_usd": 0.0}
    for key in ("media", "engine", "timestamps", "languages", "flags"):
        assert status[key] == first[key]
    shown = (await site.tnfd("show", talk, "--json")).json
    (adopted,) = [entry for entry in shown["history"] if entry["event"] == "adopted"]
    assert first["instance"] in adopted["detail"]
    assert first["job"] in adopted["detail"]


async def test_formats_are_rendered_anew_from_an_adopted_transcript(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"formats": ["txt", "json"]})
    talk = site.drop("talk.wav")
    await run_once(site, talk)
    before = files_of(site)
    lose_state(site)
    site.configure(inbox={"formats": ["txt", "vtt"]})
    assert await run_once(site, talk) == ["done"]
    assert len(server.requests) == 1
    words = (site.inbox / "talk.txt").read_text().strip()
    assert words in (site.inbox / "talk.vtt").read_text()
    assert {name: content for name, content in files_of(site).items() if name != "talk.vtt"} == before
    assert set(status_of(site, talk)["outputs"]) == {"txt", "json", "vtt"}


@pytest.mark.parametrize("point", ["adopt.reserved", "output.renamed", "output.recorded", "job.finished"])
async def test_an_adoption_survives_a_kill(site: Site, server: ApiServer, point: str) -> None:
    site.configure(inbox={"formats": ["json"]})
    talk = site.drop("talk.wav")
    await run_once(site, talk)
    lose_state(site)
    site.configure(inbox={"formats": ["txt", "srt"]})
    async with site.daemon(env={"TNFD_TEST_KILL_AT": point}, ready=False, sound=False) as daemon:
        assert await daemon.ended() == -signal.SIGKILL
    async with site.daemon() as daemon:
        await daemon.until(lambda: set(status_of(site, talk)["outputs"]) == {"txt", "srt", "json"})
    assert len(server.requests) == 1
    assert set(files_of(site)) == {"talk.wav", "talk.json", "talk.txt", "talk.srt"}
    assert not site.litter()


async def test_an_edited_output_is_not_adopted_and_not_touched(site: Site, server: ApiServer) -> None:
    talk = site.drop("talk.wav")
    await run_once(site, talk)
    (site.inbox / "talk.txt").write_text("my own words")
    lose_state(site)
    await run_once(site, talk)
    assert len(server.requests) == 2
    assert (site.inbox / "talk.txt").read_text() == "my own words"
    assert status_of(site, talk)["outputs"]["txt"]["name"] == "talk.wav.txt"


async def test_new_content_under_an_old_status_file_is_paid(site: Site, server: ApiServer) -> None:
    talk = site.drop("talk.wav", seed=1)
    await run_once(site, talk)
    lose_state(site)
    site.drop("talk.wav", seed=2)
    await run_once(site, talk)
    assert len(server.requests) == 2
    assert status_of(site, talk)["source"]["sha256"] == sha256(talk)


async def test_a_forged_status_file_makes_nothing_but_its_own_file_be_skipped(
    site: Site, server: ApiServer
) -> None:
    """What it claims as its outputs, a diary and the recording itself, does not become ours to write over."""
    talk, victim = site.drop("talk.wav", seed=1), site.drop("victim.wav", seed=2)
    await run_once(site, talk, victim)
    diary = site.inbox / "diary.txt"
    diary.write_text("dear diary")
    names = {"txt": diary, "json": talk}
    forged = status_of(site, talk) | {
        "outputs": {key: {"name": path.name, "sha256": sha256(path)} for key, path in names.items()}
    }
    (site.inbox / "talk.wav.status.json").write_text(json.dumps(forged))
    (site.inbox / "talk.txt").unlink()
    lose_state(site)
    assert await run_once(site, talk, victim) == ["done", "done"]
    assert [request.audio_s for request in server.requests] == [0.5, 0.5, 0.5]  # talk again, victim not
    assert diary.read_text() == "dear diary"
    assert status_of(site, talk)["outputs"]["txt"]["name"] == "talk.txt"
    assert status_of(site, victim)["outputs"]["txt"]["name"] == "victim.txt"


async def test_a_copy_that_was_left_without_outputs_is_adopted_so(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"on_duplicate": "skip"})
    talk = site.drop("talk.wav", seed=1)
    await run_once(site, talk)
    copy = site.drop("copy.wav", seed=1)
    await run_once(site, copy)
    lose_state(site)
    assert await run_once(site, talk, copy) == ["done", "duplicate"]
    assert len(server.requests) == 1
    assert not (site.inbox / "copy.txt").exists()


# -- frozen settings --------------------------------------------------------------------------------------


async def test_settings_are_those_of_the_moment_at_which_the_file_was_claimed(
    site: Site, server: ApiServer
) -> None:
    old = {"formats": ["txt"], "language": "de", "prompt": "Anna"}
    site.configure(inbox=old, engine={"model": "whisper-1"})
    server.always = Status(401, "invalid_api_key")
    async with site.daemon() as daemon:
        early = site.drop("early.wav", seed=1)
        await daemon.event("engine.paused")
        await daemon.stop()
    server.requests.clear()
    server.always = None
    site.configure(inbox={"formats": ["json"], "language": "fr"}, engine={"model": "whisper-2"})
    async with site.daemon() as daemon:
        late = site.drop("late.wav", seed=2)
        assert await daemon.final(site, early, late) == ["done", "done"]
    asked = {request.model: request for request in server.requests}
    assert set(asked) == {"whisper-1", "whisper-2"}
    assert asked["whisper-1"].fields["language"] == ["de"]
    assert asked["whisper-1"].fields["prompt"] == ["Anna"]
    assert asked["whisper-2"].fields["language"] == ["fr"]
    assert "prompt" not in asked["whisper-2"].fields
    assert status_of(site, early)["engine"]["model"] == "whisper-1"
    assert set(status_of(site, early)["outputs"]) == {"txt"}
    assert set(status_of(site, late)["outputs"]) == {"json"}


async def test_a_model_that_the_server_has_given_up_is_replaced_and_pauses_nobody(
    site: Site, server: ApiServer
) -> None:
    def choose(request: Request) -> Status | None:
        return Status(404, "model_not_found") if request.model == "whisper-1" else None

    server.choose = choose
    async with site.daemon() as daemon:
        early = site.drop("early.wav", seed=1)
        await daemon.event("engine.paused")
        await daemon.stop()
    site.configure(engine={"model": "whisper-2"})
    async with site.daemon() as daemon:
        assert await daemon.final(site, early) == ["done"]
        assert not daemon.named("engine.paused")
    assert status_of(site, early)["engine"]["model"] == "whisper-2"
    assert server.paid == 1


async def test_changed_settings_never_transcribe_again_by_themselves(site: Site, server: ApiServer) -> None:
    talk = site.drop("talk.wav", seed=1)
    await run_once(site, talk)
    first = status_of(site, talk)
    site.configure(inbox={"language": "fr", "prompt": "Anna"}, engine={"model": "whisper-2"})
    async with site.daemon() as daemon:
        os.utime(talk)
        await daemon.event("file.settled")  # it is looked at again, and found to be known
        copy = site.drop("copy.wav", seed=1)
        assert await daemon.final(site, copy) == ["done"]  # a file seen afterwards: the present settings
    assert [request.model for request in server.requests] == ["whisper-1", "whisper-2"]
    assert status_of(site, talk)["job"] == first["job"]
    assert status_of(site, talk)["engine"]["model"] == "whisper-1"


# -- what lies there already ------------------------------------------------------------------------------


async def test_files_from_before_the_first_start_can_be_skipped(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"existing": "skip"})
    old = site.drop("old.wav", seed=1)
    async with site.daemon() as daemon:
        new = site.drop("new.wav", seed=2)
        assert await daemon.final(site, new) == ["done"]
        await daemon.stop()
    async with site.daemon() as daemon:  # the second start does not take them either
        third = site.drop("third.wav", seed=3)
        assert await daemon.final(site, third) == ["done"]
    assert len(server.requests) == 2
    assert site.status(old) is None


async def test_files_with_a_foreign_transcript_can_be_left_alone(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"skip_existing_outputs": True})
    for name in ("a.txt", "B.SRT", "c.en.srt", "deep/d.vtt", "e.md"):
        path = site.inbox / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    skipped = [site.drop(name, seed=10 + seed) for seed, name in
               enumerate(("a.wav", "b.wav", "c.wav", "deep/d.wav"))]  # fmt: skip
    async with site.daemon() as daemon:
        e, f = site.drop("e.wav", seed=1), site.drop("f.wav", seed=2)  # e.md was not asked for: a note
        assert await daemon.final(site, e, f) == ["done", "done"]
        await daemon.event("file.ignored", 4, reason="has a transcript")
        # What tnfd has written is not foreign: neither its own when a file is touched, nor a neighbour's.
        os.utime(f)
        neighbour = site.drop("f.mp3", seed=3)
        assert await daemon.final(site, neighbour) == ["done"]
        assert {job["path"] for job in (await site.tnfd("jobs", "--json")).json}.isdisjoint(map(str, skipped))
        await daemon.stop()
    requests = len(server.requests)
    async with site.daemon() as daemon:
        g = site.drop("g.wav", seed=4)
        assert await daemon.final(site, g) == ["done"]
    assert len(server.requests) == requests + 1
    assert all((site.status(path) is None) for path in skipped)


async def test_work_that_can_be_adopted_is_not_left_alone_as_foreign(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"skip_existing_outputs": True})
    talk = site.drop("talk.wav")
    await run_once(site, talk)
    lose_state(site)
    assert await run_once(site, talk) == ["done"]
    assert len(server.requests) == 1
