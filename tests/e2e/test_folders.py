"""Folders with settings of their own, inboxes in one another, and another machine on the same folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.e2e.daemon import Site, of_another_machine, sha256
from tnfd.testing.api_server import ApiServer


async def test_a_folder_has_settings_of_its_own_and_a_mistake_pauses_it_alone(
    site: Site, server: ApiServer
) -> None:
    calls = site.inbox / "calls"
    (calls / "deep").mkdir(parents=True)
    (calls / ".tnfd.toml").write_text('formats = ["srt"]\n')
    (calls / "deep" / ".tnfd.toml").write_text('langage = "de"\n')
    async with site.daemon() as daemon:
        talk, call, deep = (site.drop(name, seed=n) for n, name in enumerate(
            ("talk.wav", "calls/call.wav", "calls/deep/deep.wav")))  # fmt: skip
        assert await daemon.final(site, talk, call) == ["done", "done"]
        paused = await daemon.event("folder.paused")
        assert "langage" in paused["reason"]
        (told,) = [
            line for line in (await site.tnfd("status", "--json")).json["attention"] if "mended" in line
        ]
        assert ".tnfd.toml:1" in told
        assert not site.status(deep)
        (calls / "deep" / ".tnfd.toml").write_text('language = "de"\n')
        assert await daemon.final(site, deep) == ["done"]
    assert (site.inbox / "talk.txt").exists()
    assert sorted(path.name for path in calls.iterdir() if path.is_file()) == [
        ".tnfd.toml", "call.srt", "call.wav", "call.wav.status.json",
    ]  # fmt: skip
    assert (calls / "deep" / "deep.srt").exists()
    assert server.requests[-1].fields["language"] == ["de"]


async def test_a_batch_keeps_to_a_folders_settings_unless_it_is_told_otherwise(
    site: Site, server: ApiServer
) -> None:
    german, broken = site.inbox / "german", site.inbox / "broken"
    german.mkdir()
    broken.mkdir()
    (german / ".tnfd.toml").write_text('language = "de"\nformats = ["srt"]\n')
    (broken / ".tnfd.toml").write_text('langage = "fr"\n')
    site.drop("german/talk.wav", seed=1)
    left = site.drop("broken/talk.wav", seed=2)
    ran = await site.tnfd("batch", site.inbox, "--json")
    assert ran.code == 1
    assert [row["result"] for row in ran.json["files"]] == ["done"]
    (out,) = ran.json["left_out"]
    assert out["path"] == str(broken)
    assert "langage" in out["reason"]
    assert ran.err.count("Left out: ") == 2  # before it begins, and in the end
    assert (german / "talk.srt").exists()
    assert not site.status(left)
    # In an inbox the daemon means the same file with the same settings: nothing is paid again.
    (broken / ".tnfd.toml").unlink()
    async with site.daemon() as daemon:
        assert await daemon.final(site, left) == ["done"]
    assert [request.fields.get("language") for request in server.requests] == [["de"], None]
    # An option of the command line has the last word.
    assert (await site.tnfd("batch", german, "--language", "en", "--redo")).code == 0
    assert server.requests[-1].fields["language"] == ["en"]


async def test_done_again_with_the_settings_of_its_folder(site: Site, server: ApiServer) -> None:
    german = site.inbox / "german"
    german.mkdir()
    talk = site.drop("german/talk.wav")
    async with site.daemon() as daemon:
        assert await daemon.final(site, talk) == ["done"]
        (german / ".tnfd.toml").write_text('language = "de"\n')
        assert (await site.tnfd("redo", talk, "--yes")).code == 0
        await daemon.event("job.finished", count=2)
        assert server.requests[-1].fields["language"] == ["de"]
        (german / ".tnfd.toml").write_text('langage = "de"\n')
        refused = await site.tnfd("redo", talk, "--yes")
    assert refused.code == 1
    assert ".tnfd.toml:1: langage" in refused.err + refused.out
    assert len(server.requests) == 2


async def test_an_inbox_inside_another_has_its_files_for_itself(site: Site, server: ApiServer) -> None:
    inner = site.inbox / "inner"
    inner.mkdir()
    site.configure(
        inbox={"output_dir": "out"},
        more_inboxes=[{"path": str(inner), "name": "inner", "after": "move", "output_dir": str(site.inbox)}],
    )
    async with site.daemon() as daemon:
        site.drop("outer.wav", seed=1)
        site.drop("inner/inner.wav", seed=2)
        await daemon.until(lambda: (inner / "done" / "inner.wav").exists())
        await daemon.event("job.finished", count=2)
    rows = (await site.tnfd("jobs", "--json")).json
    assert {(row["inbox"], Path(row["path"]).name) for row in rows} == {
        ("in", "outer.wav"),
        ("inner", "inner.wav"),
    }
    assert len(server.requests) == 2
    async with site.daemon() as daemon:  # what was put aside and written is no input at the next start either
        await daemon.until(lambda: daemon.named("daemon.ready"))
        site.drop("later.wav", seed=3)
        await daemon.event("job.finished")
        assert len(daemon.named("job.queued")) == 1
    assert len((await site.tnfd("jobs", "--json")).json) == 3


async def test_one_folder_by_two_paths_is_refused(site: Site, server: ApiServer) -> None:
    link = site.base / "link"
    link.symlink_to(site.inbox)
    site.configure(more_inboxes=[{"path": str(link)}])
    checked = await site.tnfd("config", "check")
    assert checked.code == 78
    assert "the same folder" in checked.err + checked.out


async def test_work_that_another_machine_has_in_progress_is_waited_for_and_its_result_adopted(
    site: Site, server: ApiServer
) -> None:
    talk = site.drop("talk.wav")
    path = of_another_machine(talk)
    before = path.read_bytes()
    async with site.daemon() as daemon:
        waiting = await daemon.event("job.waiting", reason="original")
        assert "nas-9" in waiting["detail"]
        assert not server.requests
        (row,) = (await site.tnfd("jobs", "--json")).json
        assert row["waiting"]["reason"] == "original"
        assert path.read_bytes() == before  # it speaks for the other one
        text = site.inbox / "talk.txt"
        text.write_text("what the other one heard\n")
        status = json.loads(before)
        status["state"], status["engine"] = "done", {"name": "x", "type": "openai", "model": "m"}
        status["outputs"] = {"txt": {"name": "talk.txt", "sha256": sha256(text)}}
        path.write_text(json.dumps(status))
        await daemon.event("job.finished", timeout_s=60, state="done")
    assert not server.requests
    assert text.read_text() == "what the other one heard\n"
    assert sorted(os.listdir(site.inbox)) == ["talk.txt", "talk.wav", "talk.wav.status.json"]


@pytest.mark.parametrize("name", ["Thumbs.db", ".hidden.mp3", "talk.mp3.part", "~$talk.mp3", "talk.f140.m4a"])
async def test_what_other_programs_leave_is_no_input(name: str, site: Site, server: ApiServer) -> None:
    site.put(site.stage(b"x"), name)
    async with site.daemon() as daemon:
        talk = site.drop("zz.wav")
        await daemon.final(site, talk)
        assert len(daemon.named("file.seen")) == 1
