"""What tnfd keeps to itself: transcript text in no log, status file, report; forgotten text on no disk."""

from __future__ import annotations

import os
import signal
import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.daemon import Site
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import Ok, Raw

WORDS = "the heron knows the combination"


def holding(folder: Path, word: bytes) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and word in path.read_bytes()]


async def test_text_stands_in_outputs_and_database_alone_and_forget_removes_it(
    site: Site, server: ApiServer
) -> None:
    site.configure(daemon={"log_level": "debug"}, inbox={"formats": ["txt", "srt"]})
    server.always = Ok(WORDS)
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.final(site, talk)
        daemon.send(signal.SIGUSR1)
        await daemon.event("daemon.dump")
        said = str(daemon.events) + str(daemon.noise)
        assert "heron" not in said
        for command in (("status", "--json"), ("jobs", "--json"), ("show", talk, "--json"), ("show", talk)):
            ran = await site.tnfd(*command)
            assert "heron" not in ran.out + ran.err, command
        assert holding(site.state, b"heron")
        assert (await site.tnfd("forget", talk)).code == 0
        assert holding(site.state, b"heron") == []  # not even in free pages or in the log of the database
    assert sorted(holding(site.base, b"heron")) == sorted(str(talk.with_suffix(s)) for s in (".srt", ".txt"))
    assert stat.S_IMODE(site.state.stat().st_mode) == 0o700
    assert all(
        stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        for path in site.state.rglob("*")
        if not path.is_socket()
    )


async def test_after_its_days_the_text_goes_and_what_was_written_stays(site: Site, server: ApiServer) -> None:
    server.always = Ok(WORDS)
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.final(site, talk)
    assert holding(site.state, b"heron")
    with site.config.open("a") as config:
        config.write("\n[retention]\ntranscripts_days = 1\n")
    async with site.daemon() as daemon:
        assert not daemon.named("transcripts.expired")
    import sqlite3  # the finish is set back, as no clock of a process can be

    with sqlite3.connect(site.state / "tnfd.sqlite3") as database:
        long_ago = (datetime.now().astimezone() - timedelta(days=2)).timestamp()
        database.execute("UPDATE transcription SET finished_at = ?", (long_ago,))
    database.close()
    async with site.daemon() as daemon:
        assert (await daemon.event("transcripts.expired"))["count"] == 1
        assert holding(site.state, b"heron") == []
        assert talk.with_suffix(".txt").read_text() == f"{WORDS}\n"
        assert (await site.tnfd("show", talk, "--json")).json["state"] == "done"
        copy = site.drop("copy.wav")  # the same content: it has to be asked for again
        assert await daemon.final(site, copy) == ["done"]
    assert len(server.requests) == 2


async def test_a_bug_s_report_holds_no_text(site: Site, server: ApiServer) -> None:
    """Whatever a server answers, and wherever reading it fails, no traceback quotes it."""
    site.configure(daemon={"max_attempts": 1, "log_level": "debug"}, engine={"max_concurrency": 1})
    bodies = [
        b'{"text": "heron", "segments": ' + b"[" * 50_000,
        b'{"heron": {"text": "heron"}}',
        b'["heron"]',
        b'{"text": 5, "heron": "heron"}',
        b"heron",
    ]
    async with site.daemon() as daemon:
        for number, body in enumerate(bodies):
            server.script(Raw(body))
            talk = site.drop(f"{number}.wav", seed=number)
            await daemon.final(site, talk)
            assert "heron" not in talk.with_name(talk.name + ".status.json").read_text()
            await site.tnfd("resume")
    assert "heron" not in str(daemon.events)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
async def test_a_key_that_others_may_read_is_refused(site: Site, mode: int) -> None:
    key = site.base / "key"
    key.write_text("sk-secret-heron")
    key.chmod(mode)
    site.configure(engine={"api_key_file": str(key)})
    ran = await site.tnfd("run")
    assert ran.code == 78
    assert "api_key_file" in ran.err
    assert "heron" not in ran.err
    os.chmod(key, 0o600)
    assert (await site.tnfd("config", "check")).code == 0
