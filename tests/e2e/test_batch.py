"""`tnfd batch` as a real process: what it does with files, what it says, what it never pays twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.e2e.daemon import PATIENCE_S, REPOSITORY, Ran, Site, command, read_status, tone, until
from tnfd.schemas import schema
from tnfd.testing import behaviours
from tnfd.testing.api_server import ApiServer

pytestmark = pytest.mark.timeout(120)


class Batch:
    """One `tnfd batch` process under way."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    async def ended(self) -> Ran:
        async with asyncio.timeout(PATIENCE_S):
            out, err = await self.process.communicate()
        return Ran(self.process.returncode or 0, out.decode(), err.decode())


@contextlib.asynccontextmanager
async def begun(
    site: Site, *arguments: str | Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[Batch]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tnfd", "batch", *arguments, "--config", site.config, env=site.environ(env),
        cwd=REPOSITORY, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Batch(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def batch(site: Site, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Ran:
    async with begun(site, *arguments, env=env) as one:
        ran = await one.ended()
    assert "Traceback" not in ran.err, ran.err
    return ran


def checked(ran: Ran) -> dict[str, Any]:
    """The JSON object of a run; nothing else may stand on stdout."""
    found: dict[str, Any] = json.loads(ran.out)
    jsonschema.Draft202012Validator(schema("batch-1")).validate(found)
    status = jsonschema.Draft202012Validator(schema("status-1"))
    for file in found["files"]:
        if file.get("schema"):
            extra = ("path", "path_base64", "result", "reason", "inbox")
            status.validate({key: value for key, value in file.items() if key not in extra})
    return found


def results(ran: Ran) -> dict[str, str]:
    return {Path(file["path"]).name: file["result"] for file in checked(ran)["files"]}


async def received(server: ApiServer, count: int) -> None:
    """So many uploads have arrived whole."""
    async with asyncio.timeout(PATIENCE_S):
        await server.until(lambda one: sum(bool(request.received_at) for request in one.requests) >= count)


def paid(server: ApiServer) -> list[str]:
    return sorted(request.sha256 for request in server.requests if request.paid)


@pytest.fixture
def three(site: Site) -> list[Path]:
    return [site.drop(f"talk-{number}.wav", 0.5 + number / 4, seed=number) for number in range(3)]


# -- the usual -------------------------------------------------------------------------------------------


async def test_a_folder_is_transcribed(site: Site, server: ApiServer, three: list[Path]) -> None:
    ran = await batch(site, site.inbox)
    assert ran.code == 0, ran.err
    assert all(path.with_suffix(".txt").read_text().startswith("words of") for path in three)
    assert [site.state_of(path) for path in three] == ["done"] * 3
    assert len(paid(server)) == 3
    assert ran.err.startswith("3 recordings, ")
    assert "done: talk-2.wav" in ran.err
    assert ran.out.startswith("3 transcribed\n2 seconds of audio in 0:0")
    assert str(site.inbox) in ran.out
    assert site.litter() == []


async def test_a_folder_outside_of_any_inbox_needs_no_inbox(site: Site, server: ApiServer) -> None:
    folder = site.base / "elsewhere"
    folder.mkdir()
    tone(folder / "a.wav")
    tone(folder / "b.wav", seed=1)
    (folder / "deep").mkdir()
    tone(folder / "deep" / "c.wav", seed=2)
    url = {"TNFD_ENGINE": "openai", "TNFD_BASE_URL": server.url, "TNFD_STATE_DIR": str(site.state)}
    ran = await command(
        "batch", folder, "--no-recursive", "--pattern", "a*", "--json", "--output-dir", site.base / "texts",
        env=site.environ(url),
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert results(ran) == {"a.wav": "done"}
    assert (site.base / "texts" / "a.txt").read_text().startswith("words of")
    assert not (folder / "a.txt").exists()


async def test_single_files_and_what_is_no_recording(
    site: Site, server: ApiServer, three: list[Path]
) -> None:
    (site.inbox / "notes.txt").write_text("mine")
    ran = await batch(site, three[0], site.inbox / "notes.txt", "--json")
    assert ran.code == 0, ran.err
    assert results(ran) == {"talk-0.wav": "done"}
    assert [Path(one["path"]).name for one in checked(ran)["ignored"]] == ["notes.txt"]
    assert "Left alone: notes.txt" in ran.err
    alone = await batch(site, site.inbox / "notes.txt")
    assert (alone.code, len(server.requests)) == (2, 1)


async def test_an_empty_folder_is_fine(site: Site) -> None:
    ran = await batch(site, site.inbox)
    assert ran.code == 0
    assert "Nothing to do" in ran.out


async def test_what_is_not_there_is_named_and_nothing_begins(
    site: Site, server: ApiServer, three: list[Path]
) -> None:
    ran = await batch(site, three[0], site.inbox / "gone.wav", site.base / "nowhere")
    assert ran.code == 2
    assert "gone.wav" in ran.err
    assert "nowhere" in ran.err
    assert server.requests == []


async def test_a_dry_run_sends_and_writes_nothing(site: Site, server: ApiServer, three: list[Path]) -> None:
    site.configure(engine={"price_usd_per_minute": 60.0})
    before = sorted(site.base.rglob("*"))
    ran = await batch(site, site.inbox, "--dry-run", "--json")
    assert ran.code == 0, ran.err
    found = checked(ran)
    assert found["totals"]["to_transcribe"] == 3
    assert found["totals"]["cost_usd"] == pytest.approx(found["totals"]["audio_s"], rel=0.1)
    assert found["engine"]["host"] == server.url.removeprefix("http://").removesuffix("/v1")
    assert "About $" in ran.err
    assert (sorted(site.base.rglob("*")), server.requests) == (before, [])


async def test_one_broken_file_stops_no_other(site: Site, server: ApiServer, three: list[Path]) -> None:
    (site.inbox / "broken.mp3").write_bytes(b"this is no audio " * 100)
    (site.inbox / "empty.mp3").touch()
    ran = await batch(site, site.inbox, "--json")
    assert ran.code == 1
    found = checked(ran)
    assert results(ran) == {
        **{path.name: "done" for path in three}, "broken.mp3": "failed", "empty.mp3": "failed",
    }  # fmt: skip
    errors = {Path(file["path"]).name: file["error"] for file in found["files"]}
    assert errors["broken.mp3"]["code"] == "media.not_media"
    assert errors["empty.mp3"]["code"] == "media.empty"
    assert found["totals"]["failed"] == 2
    assert "failed: broken.mp3: The content is not audio" in ran.err
    assert "broken.mp3 (media.not_media)\n" in ran.err
    assert errors["broken.mp3"]["hint"] in ran.err


async def test_options_become_settings(site: Site, server: ApiServer, three: list[Path]) -> None:
    ran = await batch(
        site, three[0], "--format", "txt,json", "--language", "de", "--prompt", "a talk",
        "--keywords", "Ada,Bob", "--model", "whisper-large", "--concurrency", "2", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    (request,) = server.requests
    assert (request.model, request.fields["language"]) == ("whisper-large", ["de"])
    assert "a talk" in request.fields["prompt"][0]
    assert "Ada" in request.fields["prompt"][0]
    assert set(checked(ran)["files"][0]["outputs"]) == {"txt", "json"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "doc"), "--format: unknown format"),
        (("--speakers", "everybody"), "--speakers: "),
        (("--engine", "nope"), "--engine: unknown engine"),
        (("--language", "klingon!"), "--language: "),
        (("--concurrency", "0"), "--concurrency"),
    ],
)
async def test_wrong_options_are_wrong_usage(
    site: Site, server: ApiServer, three: list[Path], arguments: tuple[str, ...], words: str
) -> None:
    ran = await batch(site, site.inbox, *arguments)
    assert ran.code == 2
    assert words in ran.err
    assert server.requests == []


# -- once more -------------------------------------------------------------------------------------------


async def test_what_is_done_already_is_not_done_again(
    site: Site, server: ApiServer, three: list[Path]
) -> None:
    assert (await batch(site, site.inbox)).code == 0
    times = {path: path.with_suffix(".txt").stat().st_mtime_ns for path in three}
    again = await batch(site, site.inbox, "--json")
    assert again.code == 0
    assert set(results(again).values()) == {"already_done"}
    assert len(server.requests) == 3
    assert {path: path.with_suffix(".txt").stat().st_mtime_ns for path in three} == times


async def test_a_lost_output_and_another_format_are_free(
    site: Site, server: ApiServer, three: list[Path]
) -> None:
    assert (await batch(site, site.inbox)).code == 0
    three[0].with_suffix(".txt").unlink()
    again = await batch(site, site.inbox, "--json")
    assert results(again) == {
        "talk-0.wav": "rendered",
        "talk-1.wav": "already_done",
        "talk-2.wav": "already_done",
    }
    more = await batch(site, site.inbox, "--format", "json,srt", "--json")
    assert set(results(more).values()) == {"rendered"}
    for path in three:
        assert (
            json.loads(path.with_suffix(".json").read_bytes())["text"]
            == path.with_suffix(".txt").read_text().strip()
        )
        assert path.with_suffix(".srt").exists()
    outputs = checked(more)["files"][0]["outputs"]
    assert set(outputs) == {"txt", "json", "srt"}
    assert len(server.requests) == 3


async def test_an_edited_output_is_left_alone(site: Site, server: ApiServer, three: list[Path]) -> None:
    assert (await batch(site, site.inbox)).code == 0
    three[0].with_suffix(".txt").write_text("corrected by hand")
    again = await batch(site, site.inbox, "--format", "txt,json")
    assert again.code == 0
    assert three[0].with_suffix(".txt").read_text() == "corrected by hand"
    assert not list(site.inbox.glob("*(2)*"))
    assert len(server.requests) == 3


async def test_a_copy_costs_nothing(site: Site, server: ApiServer, three: list[Path]) -> None:
    site.drop("copy of talk.wav", 0.5, seed=0)
    ran = await batch(site, site.inbox, "--json")
    assert ran.code == 0
    assert sorted(results(ran).values()) == ["done", "done", "done", "duplicate"]
    assert len(server.requests) == 3


async def test_other_settings_are_another_transcription(
    site: Site, server: ApiServer, three: list[Path]
) -> None:
    assert (await batch(site, three[0])).code == 0
    assert (await batch(site, three[0], "--language", "de")).code == 0
    assert (await batch(site, three[0], "--language", "de")).code == 0
    assert len(server.requests) == 2


async def test_redo_pays_again_and_an_interrupted_redo_only_for_the_rest(
    site: Site, server: ApiServer, three: list[Path]
) -> None:
    assert (await batch(site, site.inbox)).code == 0
    server.always = behaviours.Ok(text="anew")
    ran = await batch(site, site.inbox, "--redo", "--json")
    assert ran.code == 0
    assert set(results(ran).values()) == {"done"}
    assert len(server.requests) == 6
    assert [path.with_suffix(".txt").read_text().strip() for path in three] == ["anew"] * 3
    assert not list(site.inbox.glob("*(2)*"))

    server.script(behaviours.Ok(text="third"), behaviours.Hang())
    async with begun(site, site.inbox, "--redo", "--concurrency", "1") as one:
        await received(server, 8)
        one.send(signal.SIGKILL)
        await one.ended()
    server.always = behaviours.Ok(text="third")
    ran = await batch(site, site.inbox, "--redo", "--dry-run", "--json")
    assert checked(ran)["totals"]["to_transcribe"] == 2  # nobody agrees to what is paid already
    ran = await batch(site, site.inbox, "--redo", "--json")
    assert ran.code == 0, ran.err
    # The first was paid before the kill; its outputs may have been on disk by then, or not.
    assert sorted(results(ran).values())[-2:] in (["done", "done"], ["done", "rendered"])
    assert len(server.requests) == 10
    assert (await batch(site, site.inbox, "--redo")).code == 0
    assert len(server.requests) == 13


# -- interrupted -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_interrupted_it_awaits_what_was_sent_and_goes_on_later(
    site: Site, server: ApiServer, three: list[Path], number: signal.Signals
) -> None:
    server.always = behaviours.Ok(delay_s=1.5)
    async with begun(site, site.inbox, "--concurrency", "1", "--json") as one:
        await received(server, 1)
        one.send(number)
        ran = await one.ended()
    assert ran.code == 130
    found = checked(ran)
    assert found["interrupted"] is True
    assert sorted(results(ran).values()) == ["done", "waiting", "waiting"]
    assert len(server.requests) == 1
    assert "The same command goes on" in ran.err
    server.always = None
    again = await batch(site, site.inbox, "--concurrency", "1", "--json")
    assert again.code == 0
    assert sorted(results(again).values()) == ["already_done", "done", "done"]
    assert len(set(paid(server))) == len(paid(server)) == 3


async def test_interrupted_twice_it_stops_at_once(site: Site, server: ApiServer, three: list[Path]) -> None:
    server.always = behaviours.Hang()
    async with begun(site, site.inbox) as one:
        await received(server, 3)
        one.send(signal.SIGINT)
        await asyncio.sleep(0.3)
        assert one.process.returncode is None
        one.send(signal.SIGINT)
        assert (await one.ended()).code == 130
    server.always = None
    assert (await batch(site, site.inbox)).code == 0


@pytest.mark.parametrize(
    "step",
    [
        "batch.taken",
        "gate.reserved",
        "work.answered",
        "work.chunk_saved",
        "work.transcript_saved",
        "output.recorded",
    ],
)
async def test_killed_it_goes_on_without_paying_twice(
    site: Site, server: ApiServer, three: list[Path], step: str
) -> None:
    killed = await batch(site, site.inbox, "--concurrency", "1", env={"TNFD_TEST_KILL_AT": step})
    assert killed.code == -signal.SIGKILL
    # Its answer comes too late for a process that is dead; it cannot but be asked for again.
    await until(lambda: all(one.outcome != "open" for one in server.requests), "the server is at rest")
    lost = len(server.requests) - site.stored_answers()
    assert lost <= 1
    again = await batch(site, site.inbox, "--json")
    assert again.code == 0, again.err
    assert all(path.with_suffix(".txt").exists() for path in three)
    assert len(server.requests) == 3 + lost
    assert site.litter() == []
    assert [site.state_of(path) for path in three] == ["done"] * 3


# -- beside others ---------------------------------------------------------------------------------------


async def test_beside_a_daemon_nothing_is_done_twice(site: Site, server: ApiServer) -> None:
    server.base_s = 0.5
    async with site.daemon() as daemon:
        watched = [site.drop(f"talk-{number}.wav", 0.5, seed=number) for number in range(4)]
        other = site.base / "other"
        other.mkdir()
        copy = tone(other / "copy.wav", 0.5, seed=0)
        fresh = tone(other / "fresh.wav", 0.5, seed=9)
        await received(server, 1)
        ran = await batch(site, site.inbox, other, "--json")
        assert ran.code == 0, ran.err
        await daemon.final(site, *watched)
    assert set(results(ran)) == {*(path.name for path in watched), "copy.wav", "fresh.wav"}
    assert not {"failed", "waiting"} & set(results(ran).values())
    assert len(paid(server)) == 5
    assert copy.with_suffix(".txt").read_text() == watched[0].with_suffix(".txt").read_text()
    assert fresh.with_suffix(".txt").exists()
    assert not list(site.inbox.glob("*.wav.txt"))


async def test_what_a_killed_daemon_left_is_taken_over(
    site: Site, server: ApiServer, three: list[Path]
) -> None:
    server.always = behaviours.Hang()
    async with site.daemon(sound=False) as daemon:
        await received(server, 3)
        await daemon.stop(signal.SIGKILL)
    server.always = None
    ran = await batch(site, site.inbox, "--json")
    assert ran.code == 0, ran.err
    assert set(results(ran).values()) == {"done"}


async def test_what_an_interrupted_batch_leaves_in_an_inbox_the_daemon_does(
    site: Site, server: ApiServer, three: list[Path]
) -> None:
    server.always = behaviours.Hang()
    async with begun(site, site.inbox) as one:
        await received(server, 3)
        one.send(signal.SIGKILL)
        await one.ended()
    server.always = None
    async with site.daemon() as daemon:
        assert await daemon.final(site, *three) == ["done"] * 3


async def test_two_batches_share_the_work(site: Site, server: ApiServer, three: list[Path]) -> None:
    server.base_s = 0.4
    first, second = await asyncio.gather(batch(site, site.inbox, "--json"), batch(site, site.inbox, "--json"))
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert len(paid(server)) == 3


async def test_what_another_batch_leaves_when_it_is_killed_is_taken_over(
    site: Site, server: ApiServer, three: list[Path]
) -> None:
    elsewhere = site.base / "elsewhere"
    site.inbox.rename(elsewhere)
    site.inbox.mkdir()
    paths = [elsewhere / path.name for path in three]
    server.always = behaviours.Hang()
    async with begun(site, elsewhere, "--concurrency", "1") as first:
        await received(server, 1)
        async with begun(site, elsewhere, "--concurrency", "1", "--json") as second:
            await asyncio.sleep(2)
            assert len(server.requests) == 1  # the second one only follows
            server.always = None
            first.send(signal.SIGKILL)
            await first.ended()
            ran = await second.ended()
    assert ran.code == 0, ran.err
    assert set(results(ran).values()) == {"done"}
    assert all(path.with_suffix(".txt").exists() for path in paths)
    assert len(server.requests) == 4  # the one that was lost with the first, and each once


# -- commands meanwhile ----------------------------------------------------------------------------------


async def test_a_cancelled_file_is_left_out(site: Site, server: ApiServer, three: list[Path]) -> None:
    server.always = behaviours.Hang()
    async with begun(site, site.inbox, "--json") as one:
        await received(server, 3)
        assert (await site.tnfd("cancel", three[0])).code == 0
        server.always = None
        for path in three[1:]:
            assert (await site.tnfd("cancel", path)).code == 0
        ran = await one.ended()
    assert ran.code == 1
    assert set(results(ran).values()) == {"cancelled"}
    again = await batch(site, site.inbox, "--json")
    assert set(results(again).values()) == {"done"}


async def test_paused_it_waits_until_resumed(site: Site, server: ApiServer, three: list[Path]) -> None:
    assert (await batch(site, three[0])).code == 0
    assert (await site.tnfd("pause")).code == 0
    async with begun(site, site.inbox, "--json") as one:
        await asyncio.sleep(2)
        assert len(server.requests) == 1
        assert one.process.returncode is None
        assert (await site.tnfd("resume")).code == 0
        ran = await one.ended()
    assert ran.code == 0
    assert sorted(results(ran).values()) == ["already_done", "done", "done"]


# -- waiting, and giving up ------------------------------------------------------------------------------


async def test_a_refused_key_ends_it_soon_and_nothing_fails(
    site: Site, server: ApiServer, three: list[Path]
) -> None:
    site.configure(engine={"api_key_env": "KEY"})
    server.always = behaviours.BAD_KEY
    ran = await batch(site, site.inbox, "--json", env={"KEY": "sk-wrong"})
    assert ran.code == 75
    assert set(results(ran).values()) == {"waiting"}
    assert "refused the API key" in checked(ran)["halted"]["reason"]
    assert "The same command goes on" in ran.err
    server.always = None
    assert (await batch(site, site.inbox)).code == 0


async def test_a_reached_budget_ends_it(site: Site, server: ApiServer, three: list[Path]) -> None:
    site.configure(engine={"price_usd_per_minute": 60.0, "max_concurrency": 1})
    site.config.write_text(site.config.read_text() + "[budget]\ndaily_usd = 1.3\n")
    ran = await batch(site, site.inbox, "--json")
    assert ran.code == 75
    assert "waiting" in results(ran).values()
    assert "budget" in checked(ran)["halted"]["reason"]
    assert checked(ran)["totals"]["cost_usd"] <= 1.31


async def test_a_rate_limit_is_waited_for(site: Site, server: ApiServer, three: list[Path]) -> None:
    server.script(behaviours.RATE_LIMITED, behaviours.RATE_LIMITED)
    ran = await batch(site, site.inbox, "--json")
    assert ran.code == 0
    assert set(results(ran).values()) == {"done"}


async def test_a_file_that_grows_is_waited_for(site: Site, server: ApiServer) -> None:
    whole = tone(site.stage(), 2.0).read_bytes()
    path = site.inbox / "growing.wav"
    with path.open("wb") as file:
        file.write(whole[:1000])
        file.flush()
        async with begun(site, site.inbox, "--json") as one:
            await asyncio.sleep(1.5)
            assert server.requests == []
            file.write(whole[1000:])
            file.close()
            ran = await one.ended()
    assert results(ran) == {"growing.wav": "done"}
    assert server.requests[0].audio_s == pytest.approx(2.0, abs=0.1)


# -- without a configuration -----------------------------------------------------------------------------


async def test_without_engine_and_key_it_says_what_to_do(site: Site) -> None:
    tone(site.inbox / "a.wav")
    ran = await command("batch", site.inbox, env=site.environ())
    assert ran.code == 78
    assert "no engine is chosen" in ran.err
    assert "--engine NAME" in ran.err


async def test_without_an_engine_openai_wants_a_yes(site: Site, server: ApiServer) -> None:
    tone(site.inbox / "a.wav")
    environ = site.environ({"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": server.url})
    ran = await command("batch", site.inbox, env=environ)
    assert ran.code == 78
    assert "--yes" in ran.err
    assert server.requests == []
    yes = await command("batch", site.inbox, "--yes", env=environ)
    assert yes.code == 0, yes.err
    assert (site.inbox / "a.txt").exists()
    assert server.requests[0].model == "gpt-transcribe"
    assert read_status(site.inbox / "a.wav.status.json")


async def test_a_configured_engine_without_a_key_is_said_at_once(site: Site, server: ApiServer) -> None:
    tone(site.inbox / "a.wav")
    ran = await command("batch", site.inbox, "--engine", "openai", env=site.environ())
    assert ran.code == 78
    assert "OPENAI_API_KEY" in ran.err


async def test_nobody_reads_its_log(site: Site, server: ApiServer, three: list[Path]) -> None:
    async with begun(site, site.inbox) as one:
        assert one.process.stderr is not None
        one.process._transport.get_pipe_transport(2).close()  # type: ignore[attr-defined]
        await until(lambda: all(path.with_suffix(".txt").exists() for path in three))
        async with asyncio.timeout(PATIENCE_S):
            await one.process.wait()


# -- beside work that was done before ----------------------------------------------------------------------


async def test_what_another_tnfd_has_done_is_told_apart(
    site: Site, server: ApiServer, three: list[Path]
) -> None:
    assert (await batch(site, site.inbox)).code == 0
    shutil.rmtree(site.state)
    ran = await batch(site, site.inbox, "--json")
    assert ran.code == 0
    assert set(results(ran).values()) == {"adopted"}
    assert checked(ran)["totals"]["adopted"] == 3
    assert "3 found finished, by another tnfd" in ran.err
    assert len(server.requests) == 3


async def test_a_copy_of_finished_work_does_not_wait_for_a_slow_engine(
    site: Site, server: ApiServer, three: list[Path]
) -> None:
    assert (await batch(site, three[0])).code == 0
    for number in range(8):
        site.drop(f"other-{number}.wav", 0.5, seed=100 + number)
    copy = site.drop("zz copy.wav", 0.5, seed=0)  # the shortest of all, and the last by name
    server.always = behaviours.Hang()
    async with begun(site, site.inbox, "--concurrency", "1") as one:
        await until(lambda: copy.with_suffix(".txt").exists(), "the copy's transcript")
        one.send(signal.SIGINT)
        one.send(signal.SIGTERM)
        assert (await one.ended()).code == 130
