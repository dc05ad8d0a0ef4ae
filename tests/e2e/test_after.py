"""What becomes of recordings once they are done: kept, moved or deleted, by the real process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.daemon import Site, read_status, sha256
from tnfd.testing.api_server import ApiServer


async def test_a_finished_recording_is_moved_with_what_lies_beside_it(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"after": "move"})
    async with site.daemon() as daemon:
        talk = site.drop("2026/talk.wav")
        content = sha256(talk)
        moved = await daemon.event("job.moved")
    done = site.inbox / "done/2026"
    assert moved["to"] == str(done / "talk.wav")
    assert sorted(os.listdir(done)) == ["talk.txt", "talk.wav", "talk.wav.status.json"]
    assert os.listdir(site.inbox / "2026") == []
    assert sha256(done / "talk.wav") == content
    status = read_status(done / "talk.wav.status.json")
    assert status is not None
    assert status["state"] == "done"
    assert status["outputs"]["txt"]["sha256"] == sha256(done / "talk.txt")
    (job,) = (await site.tnfd("jobs", "--json")).json
    assert job["path"] == str(talk)
    assert job["moved_to"] == str(done / "talk.wav")
    assert not site.litter()
