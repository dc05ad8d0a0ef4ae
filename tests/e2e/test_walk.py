"""A file's whole way through the real daemon: what lies beside it afterwards, and what was paid."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import stat
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.e2e.daemon import Site, read_status, sha256, tone
from tnfd.schemas import schema
from tnfd.testing.api_server import ApiServer


async def test_a_dropped_file_gets_its_outputs_and_a_true_status_file(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"formats": ["txt", "json"]})
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav", 1.0)
        await daemon.final(site, talk)
    status = site.status(talk)
    assert status is not None
    (request,) = server.requests
    answer = f"words of {request.sha256[:8]}"
    assert (site.inbox / "talk.txt").read_text() == f"{answer}\n"
    transcript = json.loads((site.inbox / "talk.json").read_bytes())
    jsonschema.Draft202012Validator(schema("transcript-1")).validate(transcript)
    assert transcript["text"] == answer
    assert transcript["source"] == {"name": "talk.wav", "sha256": sha256(talk)}
    assert transcript["timestamps"] == "engine"
    assert status["state"] == "done"
    assert status["source"]["sha256"] == sha256(talk)
    assert {name: output["sha256"] for name, output in status["outputs"].items()} == {
        "txt": sha256(site.inbox / "talk.txt"),
        "json": sha256(site.inbox / "talk.json"),
    }
    assert status["usage"] == {
        "audio_s": 1.0, "requests": 1, "uploaded_bytes": request.file_bytes, "cost_usd": 0.0,
    }  # fmt: skip
    assert all(status["timing"].values())
    assert not site.litter()
    assert sorted(os.listdir(site.inbox)) == ["talk.json", "talk.txt", "talk.wav", "talk.wav.status.json"]


async def test_the_log_tells_the_way_in_order_and_never_the_text(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.final(site, talk)
        await daemon.stop()
    told = [event["event"] for event in daemon.events]
    way = ["inbox.watching", "daemon.ready", "file.seen", "file.settled", "job.queued", "job.started",
           "job.finished", "daemon.stopping"]  # fmt: skip
    assert told == way
    for event in daemon.events:
        assert list(event)[:3] == ["timestamp", "level", "event"]
    (finished,) = daemon.named("job.finished")
    assert list(finished)[3:5] == ["job", "file"]
    assert finished["state"] == "done"
    assert finished["audio_s"] == 0.5
    assert "words of" not in daemon.log()


async def test_a_file_written_slowly_is_taken_once_and_whole(site: Site, server: ApiServer) -> None:
    data = tone(site.stage(), 2.0).read_bytes()
    async with site.daemon() as daemon:
        slow = site.inbox / "slow.wav"
        with slow.open("wb") as file:
            for start in range(0, len(data), len(data) // 8 + 1):
                file.write(data[start : start + len(data) // 8 + 1])
                file.flush()
                seen = len(daemon.events)
                await daemon.until(lambda: len(daemon.events) > 2, "it is seen")
                await asyncio.sleep(0.1)  # the writer's pace, not ours
                assert not [event for event in daemon.events[seen:] if event["event"] == "file.settled"]
        assert await daemon.final(site, slow) == ["done"]
    status = site.status(slow)
    assert status is not None
    assert status["source"]["sha256"] == sha256(slow)
    assert status["media"]["duration_s"] == 2.0
    assert len(server.requests) == 1


async def test_the_same_content_again_costs_no_request(site: Site, server: ApiServer) -> None:
    other = site.base / "other"
    other.mkdir()
    site.configure(more_inboxes=[{"path": str(other), "name": "second"}])
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav", seed=7)
        await daemon.final(site, talk)
        again = site.drop("sub/again.wav", seed=7)
        elsewhere = site.drop("talk.wav", seed=7, into=other)
        assert await daemon.final(site, again, elsewhere) == ["duplicate", "duplicate"]
    assert len(server.requests) == 1
    words = (site.inbox / "talk.txt").read_text()
    assert (site.inbox / "sub/again.txt").read_text() == words
    assert (other / "talk.txt").read_text() == words
    first, copy = site.status(talk), site.status(again)
    assert first is not None
    assert copy is not None
    assert copy["duplicate_of"] == {"job": first["job"], "path": str(talk)}
    assert copy["usage"]["requests"] == 0
    assert copy["outputs"]["txt"]["sha256"] == sha256(site.inbox / "sub/again.txt")


async def test_a_copy_of_work_in_progress_waits_for_it(site: Site, server: ApiServer) -> None:
    server.base_s = 0.6
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav", seed=7)
        await daemon.until(lambda: server.requests)
        copy = site.drop("copy.wav", seed=7)
        assert await daemon.final(site, talk, copy) == ["done", "duplicate"]
    assert len(server.requests) == 1


async def test_duplicates_are_skipped_where_asked(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"on_duplicate": "skip"})
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav", seed=7)
        await daemon.final(site, talk)
        again = site.drop("again.wav", seed=7)
        assert await daemon.final(site, again) == ["duplicate"]
    assert len(server.requests) == 1
    assert not (site.inbox / "again.txt").exists()
    status = site.status(again)
    assert status is not None
    assert status["outputs"] == {}


async def test_outputs_go_into_a_mirrored_tree(site: Site, server: ApiServer) -> None:
    transcripts = site.base / "transcripts"
    site.configure(inbox={"output_dir": str(transcripts)})
    async with site.daemon() as daemon:
        deep = site.drop("2026/november/talk.wav")
        flat = site.drop("talk.wav", seed=1)
        mirrored = transcripts / "2026/november/talk.wav.status.json"
        await daemon.until(lambda: (read_status(mirrored) or {}).get("state") == "done")
        await daemon.until(
            lambda: (read_status(transcripts / "talk.wav.status.json") or {}).get("state") == "done"
        )
    assert sorted(str(path.relative_to(transcripts)) for path in transcripts.rglob("*.txt")) == [
        "2026/november/talk.txt",
        "talk.txt",
    ]
    assert os.listdir(deep.parent) == ["talk.wav"]
    assert flat.read_bytes()
    assert not list(site.inbox.rglob("*.json"))


async def test_two_recordings_of_one_stem_share_no_name(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        first = site.drop("talk.wav", seed=1)
        await daemon.final(site, first)
        second = site.drop("Talk.mp3", seed=2)  # names that some file systems take for one
        await daemon.final(site, second)
    one, two = site.status(first), site.status(second)
    assert one is not None
    assert two is not None
    assert one["outputs"]["txt"]["name"] == "talk.txt"
    assert two["outputs"]["txt"]["name"] == "Talk.mp3.txt"
    by_length = {request.sha256[:8] for request in server.requests}
    texts = {(site.inbox / name).read_text().split()[-1] for name in ("talk.txt", "Talk.mp3.txt")}
    assert texts == by_length


async def test_a_foreign_file_with_the_name_is_left_alone(site: Site, server: ApiServer) -> None:
    foreign = site.inbox / "talk.txt"
    foreign.write_text("my own notes")
    strange = site.inbox / "talk.wav.status.json"
    strange.write_text('{"mine": true}')
    async with site.daemon() as daemon:
        site.drop("talk.wav")
        second = site.inbox / "talk.wav (2).status.json"
        await daemon.until(lambda: (read_status(second) or {}).get("state") == "done")
        status = read_status(second) or {}
    assert foreign.read_text() == "my own notes"
    assert strange.read_text() == '{"mine": true}'
    assert status["outputs"]["txt"]["name"] == "talk.wav.txt"
    assert (site.inbox / "talk.wav.txt").read_text().startswith("words of")


async def test_a_transcript_edited_by_hand_survives_new_content(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav", seed=1)
        await daemon.final(site, talk)
        edited = site.inbox / "talk.txt"
        edited.write_text("corrected by a person\n")
        first = site.status(talk)
        site.drop("talk.wav", seed=2)
        await daemon.until(lambda: (site.status(talk) or {}).get("job") != (first or {})["job"])
        await daemon.final(site, talk)
    assert edited.read_text() == "corrected by a person\n"
    status = site.status(talk)
    assert status is not None
    name = status["outputs"]["txt"]["name"]
    assert name != "talk.txt"
    assert (site.inbox / name).read_text() == f"words of {server.requests[1].sha256[:8]}\n"


async def killed_after_its_first_output(site: Site) -> Path:
    """Let a daemon die when it has recorded one of two outputs; somebody then edits that one."""
    site.configure(inbox={"formats": ["txt", "json"]})
    async with site.daemon(env={"TNFD_TEST_KILL_AT": "output.recorded"}, ready=False) as daemon:
        assert await daemon.ended() == -9
    (written,) = [path for path in site.inbox.iterdir() if path.name in ("talk.txt", "talk.json")]
    written.write_text("edited")
    return written


async def test_an_output_edited_before_the_same_words_come_again_is_kept(
    site: Site, server: ApiServer
) -> None:
    talk = site.drop("talk.wav")
    written = await killed_after_its_first_output(site)
    async with site.daemon() as daemon:
        assert await daemon.final(site, talk) == ["done"]
    assert written.read_text() == "edited"
    assert {path.name for path in site.inbox.iterdir()} == {
        "talk.wav", "talk.txt", "talk.json", "talk.wav.status.json",
    }  # fmt: skip
    assert len(server.requests) == 1


async def test_an_output_edited_before_other_words_come_gets_a_second_one_beside_it(
    site: Site, server: ApiServer
) -> None:
    talk = site.drop("talk.wav", seed=1)
    written = await killed_after_its_first_output(site)
    site.drop("talk.wav", seed=2)
    async with site.daemon() as daemon:
        assert await daemon.final(site, talk) == ["done"]
    assert written.read_text() == "edited"
    status = site.status(talk)
    assert status is not None
    # The former job may notice first that its file has changed, or the new content be accepted first.
    name = status["outputs"][written.suffix[1:]]["name"]
    assert name in (f"talk (2){written.suffix}", f"talk.wav{written.suffix}")
    assert server.requests[1].sha256[:8] in (site.inbox / name).read_text()


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o444])
async def test_outputs_get_the_permissions_of_the_source(site: Site, server: ApiServer, mode: int) -> None:
    old = os.umask(0o077)
    try:
        async with site.daemon() as daemon:
            staged = tone(site.stage())
            staged.chmod(mode)
            talk = site.put(staged, "talk.wav")
            assert await daemon.final(site, talk) == ["done"]
    finally:
        os.umask(old)
    for name in ("talk.txt", "talk.wav.status.json"):
        assert stat.S_IMODE((site.inbox / name).stat().st_mode) == mode
    assert stat.S_IMODE((site.state / "tnfd.sqlite3").stat().st_mode) == 0o600


async def test_a_restart_does_nothing_again(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        talks = [site.drop(f"{n}.wav", seed=n) for n in range(3)]
        await daemon.final(site, *talks)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in site.inbox.iterdir()}
    async with site.daemon() as daemon:
        new = site.drop("new.wav", seed=9)
        await daemon.final(site, new)
    assert len(server.requests) == 4
    assert [event["file"] for event in daemon.named("job.started")] == ["new.wav"]
    assert [event["file"] for event in daemon.named("file.seen")] == ["new.wav"]
    after = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in site.inbox.iterdir()}
    assert before.items() <= after.items()


async def test_files_dropped_while_it_was_stopped_are_found(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        first = site.drop("first.wav", seed=1)
        await daemon.final(site, first)
    second = site.drop("deep/second.wav", seed=2)
    async with site.daemon() as daemon:
        assert await daemon.final(site, second) == ["done"]
    assert len(server.requests) == 2


async def test_new_content_at_the_same_path_is_a_new_job(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav", seed=1)
        await daemon.final(site, talk)
        first = site.status(talk)
        site.drop("talk.wav", seed=2)
        await daemon.until(lambda: (site.status(talk) or {}).get("job") != (first or {})["job"])
        assert await daemon.final(site, talk) == ["done"]
    second = site.status(talk)
    assert first is not None
    assert second is not None
    assert second["source"]["sha256"] == sha256(talk) != first["source"]["sha256"]
    name = second["outputs"]["txt"]["name"]
    assert (site.inbox / name).read_text() == f"words of {server.requests[1].sha256[:8]}\n"
    # The first job keeps its name and its words for good.
    assert (site.inbox / "talk.txt").read_text() == f"words of {server.requests[0].sha256[:8]}\n"


@pytest.mark.skipif(sys.platform == "darwin", reason="APFS takes UTF-8 names only")
async def test_a_name_that_is_not_utf8_keeps_its_bytes(site: Site, server: ApiServer) -> None:
    raw = os.fsencode(site.inbox) + b"/caf\xe9 \xff.wav"
    async with site.daemon() as daemon:
        os.rename(tone(site.stage()), raw)
        status_file = Path(os.fsdecode(raw) + ".status.json")
        await daemon.until(lambda: (read_status(status_file) or {}).get("state") == "done")
    assert os.stat(raw[:-4] + b".txt").st_size > len("words of")
    status = read_status(status_file)
    assert status is not None
    assert status["source"]["name"] == "caf\\xe9 \\xff.wav"
    assert base64.b64decode(status["source"]["name_base64"]) == b"caf\xe9 \xff.wav"
    (finished,) = daemon.named("job.finished")
    assert finished["file"] == "caf\\xe9 \\xff.wav"


async def test_what_lies_there_at_the_first_start_can_be_skipped(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"existing": "skip"})
    old = site.drop("old.wav", seed=1)
    async with site.daemon() as daemon:
        await daemon.event("file.ignored", files=1)
        new = site.drop("new.wav", seed=2)
        await daemon.final(site, new)
    second = site.drop("while-away.wav", seed=3)
    async with site.daemon() as daemon:  # only the first start skips
        assert await daemon.final(site, second) == ["done"]
    assert not site.status(old)
    assert len(server.requests) == 2


async def test_without_a_status_file_only_outputs_appear(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"status": "never"})
    async with site.daemon() as daemon:
        site.drop("talk.wav")
        await daemon.event("job.finished")
        await daemon.stop()
    assert sorted(os.listdir(site.inbox)) == ["talk.txt", "talk.wav"]


async def test_outputs_are_never_taken_as_inputs(site: Site, server: ApiServer) -> None:
    """A recording that is named like an output or a temporary file, and outputs of media-like names."""
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.final(site, talk)
        site.drop(".hidden.wav", seed=1)
        site.drop("half.wav.part", seed=2)
        last = site.drop("last.wav", seed=3)
        await daemon.final(site, last)
    assert len(server.requests) == 2
