"""A recording that is renamed or moved: its job goes with it, and nothing is paid twice."""

from __future__ import annotations

import os

import pytest

from tests.e2e.daemon import Site
from tnfd.testing.api_server import ApiServer


def lies_in(site: Site) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(folder, name), site.inbox)
        for folder, _, names in os.walk(site.inbox)
        for name in names
    )


@pytest.mark.parametrize("to", ["new.wav", "deep/talk.wav"])
async def test_a_file_renamed_while_its_job_runs_gets_its_outputs_where_it_is(
    to: str, site: Site, server: ApiServer
) -> None:
    server.base_s = 3.0
    (site.inbox / "deep").mkdir()
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await server.until(lambda one: len(one.requests) == 1)
        talk.rename(site.inbox / to)
        assert await daemon.final(site, site.inbox / to) == ["done"]
        await daemon.until(lambda: not site.status(talk))
        assert await daemon.stop() == 0
        daemon.assert_sound()
    assert len(server.requests) == 1
    assert lies_in(site) == sorted([to, to.replace(".wav", ".txt"), f"{to}.status.json"])
    assert len({event["job"] for event in daemon.events if "job" in event}) == 1


async def test_a_file_moved_while_its_job_queues_is_done_where_it_is(site: Site, server: ApiServer) -> None:
    site.configure(daemon={"workers": 1}, engine={"max_concurrency": 1})
    await site.tnfd("pause")
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        # Its status file is written after 10 s in one state; it must not stay behind.
        await daemon.until(lambda: site.state_of(talk) == "queued")
        (site.inbox / "sorted").mkdir()
        talk.rename(site.inbox / "sorted" / "renamed.wav")
        await daemon.event("job.moved")
        await site.tnfd("resume")
        assert await daemon.final(site, site.inbox / "sorted" / "renamed.wav") == ["done"]
        await daemon.until(lambda: not site.status(talk))
    assert len(server.requests) == 1
    assert lies_in(site) == ["sorted/renamed.txt", "sorted/renamed.wav", "sorted/renamed.wav.status.json"]
    (row,) = (await site.tnfd("jobs", "--json")).json
    assert row["path"] == str(site.inbox / "sorted" / "renamed.wav")


async def test_a_finished_folder_that_is_renamed_stays_finished(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        old = [site.drop(f"old/{n}.wav", seed=n) for n in range(3)]
        await daemon.final(site, *old)
        (site.inbox / "old").rename(site.inbox / "new")
        await daemon.event("job.moved", count=3)
        assert await daemon.stop() == 0
    names = [f"{n}.{ext}" for n in range(3) for ext in ("txt", "wav", "wav.status.json")]
    assert lies_in(site) == sorted(f"new/{name}" for name in names)
    assert len(server.requests) == 3
    rows = (await site.tnfd("jobs", "--json")).json
    assert {(row["path"], row["state"]) for row in rows} == {
        (str(site.inbox / "new" / f"{n}.wav"), "done") for n in range(3)
    }


async def test_a_hard_link_and_a_copy_are_duplicates_that_cost_nothing(site: Site, server: ApiServer) -> None:
    async with site.daemon() as daemon:
        talk = site.drop("talk.wav")
        await daemon.final(site, talk)
        os.link(talk, site.inbox / "link.wav")
        (site.inbox / "copy.wav").write_bytes(talk.read_bytes())
        states = await daemon.final(site, site.inbox / "link.wav", site.inbox / "copy.wav")
    assert states == ["duplicate", "duplicate"]
    assert len(server.requests) == 1
    assert (site.inbox / "link.txt").read_bytes() == (site.inbox / "talk.txt").read_bytes()
