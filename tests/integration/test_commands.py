"""Commands on real databases: what they change for jobs, leases, copies, the ledger, and files to come."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests import stores
from tests.stores import ENGINE, TEXT, known
from tnfd.clock import SystemClock
from tnfd.config import Config, check_text
from tnfd.control import Ambiguous, Control, NoSuchJob
from tnfd.control.redo import plan_redo
from tnfd.errors import Fault, LeaseLost
from tnfd.model import EngineChoice, FileRef, Job, JobState, StatKey, Waiting, WaitReason
from tnfd.ports.after import Errand
from tnfd.ports.claims import Found, Origin
from tnfd.ports.ledger import Refusal
from tnfd.ports.queue import Done, Fail, Wait
from tnfd.store.ledger import Budget
from tnfd.store.sqlite import SqliteStore

CLOCK = SystemClock()
CONFIG = """
[daemon]
state_dir = "{state}"
[[inbox]]
path = "{inbox}"
[engines.lan]
type = "openai"
model = "whisper-x"
base_url = "http://127.0.0.1:9/v1"
[engines.paid]
type = "openai"
model = "gpt-transcribe"
base_url = "https://api.openai.com/v1"
"""


class World:
    """A configuration with one inbox, its state folder, and the store that a daemon would have open."""

    def __init__(self, base: Path) -> None:
        self.inbox = base / "in"
        self.state = base / "state"
        for folder in (self.inbox, self.state):
            folder.mkdir()
        self.file = base / "tnfd.toml"
        self.file.write_text(CONFIG.format(state=self.state, inbox=self.inbox))
        self.config: Config = check_text(self.file.read_text(), self.file, {})

    @property
    def scope(self) -> str:
        return f"inbox:{self.inbox}"

    def origin(self, engine: EngineChoice = ENGINE) -> Origin:
        return Origin(self.scope, "in", stores.origin(engine=engine).settings)

    def ref(self, name: str) -> FileRef:
        return FileRef(os.fsencode(self.inbox), name.encode(), StatKey.of((self.inbox / name).stat()))

    def found(self, name: str, content: str = "a") -> Found:
        (self.inbox / name).write_text(content)
        now = CLOCK.now()
        sha256 = stores.found(name, content, now).sha256
        return Found(self.ref(name), sha256, now, now)

    @asynccontextmanager
    async def store(self, kind: str = "daemon") -> AsyncIterator[SqliteStore]:
        owner = f"{kind}-{os.urandom(4).hex()}"
        async with SqliteStore(
            self.state, CLOCK, owner=owner, pid=os.getpid(), kind=kind, budget=Budget()
        ) as store:
            yield store

    async def claim(self, store: SqliteStore, name: str, content: str = "a") -> str:
        (claim,) = await store.claim(self.origin(), [self.found(name, content)])
        return claim.job

    async def finish(self, store: SqliteStore, job_id: str) -> Job:
        lease = await stores.begin(store, job_id)
        if lease.transcription.transcript is None:
            await stores.transcribe(store, lease)
        ended = await store.finish(lease, Done())
        assert ended is not None
        return ended.job

    def control(self) -> Control:
        return Control(self.config, CLOCK)

    def job(self, name: str) -> Job:
        with self.control() as control:
            return control.find(str(self.inbox / name))[0]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# -- finding -----------------------------------------------------------------------------------------------


async def test_jobs_are_found_by_path_id_and_beginning(world: World) -> None:
    async with world.store() as store:
        first = await world.claim(store, "talk.mp3")
        await world.claim(store, "other.mp3", "b")
    (world.inbox / "link").symlink_to(world.inbox)
    with world.control() as control:
        for named in (str(world.inbox / "talk.mp3"), f"{world.inbox}/link/talk.mp3", first, first.lower()):
            assert [job.id for job in control.find(named)] == [first]
        with pytest.raises(Ambiguous, match="fits 2 jobs"):
            control.find(first[:5])
        with pytest.raises(NoSuchJob):
            control.find("nothing.mp3")


# -- cancel ------------------------------------------------------------------------------------------------


async def test_cancel_fences_the_worker_off_and_lets_the_copy_work(world: World) -> None:
    async with world.store() as store:
        original = await world.claim(store, "talk.mp3")
        copy = await world.claim(store, "copy.mp3")
        lease = await stores.begin(store, original)
        assert await stores.skipped(store, copy) == "the original is in work"
        last = await store.last_command()
        with world.control() as control:
            (dealt,) = control.cancel([lease.job])
        assert (dealt.before, dealt.done) == (JobState.RUNNING, True)
        assert [(one.command, one.argument) for one in await store.commands(last)] == [("cancel", original)]
        with pytest.raises(LeaseLost):
            await store.save_transcript(lease, TEXT)
        assert await store.finish(lease, Done()) is None
        assert (await stores.the_job(store, original)).state is JobState.CANCELLED
        assert (await world.finish(store, copy)).state is JobState.DONE


async def test_cancel_leaves_what_is_final_as_it_is(world: World) -> None:
    async with world.store() as store:
        job = await world.finish(store, await world.claim(store, "talk.mp3"))
        with world.control() as control:
            (dealt,) = control.cancel([job])
        assert (dealt.before, dealt.done) == (JobState.DONE, False)
        assert (await stores.the_job(store, job.id)).state is JobState.DONE


async def test_a_queued_job_is_cancelled_and_comes_back_by_retry(world: World) -> None:
    async with world.store() as store:
        await world.claim(store, "talk.mp3")
        with world.control() as control:
            control.cancel([world.job("talk.mp3")])
            assert await store.ready([world.scope], limit=9, without=()) == []
            control.retry([world.job("talk.mp3")])
        assert len(await store.ready([world.scope], limit=9, without=())) == 1


async def test_a_file_cancelled_while_it_arrives_is_not_taken_when_it_is_whole(world: World) -> None:
    async with world.store() as store:
        found = world.found("talk.mp3")
        job_id = await store.settling(world.origin(), found.ref, CLOCK.now())
        with world.control() as control:
            control.cancel([world.job("talk.mp3")])
        assert await store.settling(world.origin(), found.ref, CLOCK.now()) == job_id
        (claim,) = await store.claim(world.origin(), [world.found("talk.mp3", "longer by now")])
        assert (claim.job, claim.new) == (job_id, False)
        job = await stores.the_job(store, job_id)
        assert job.state is JobState.CANCELLED
        assert await store.ready([world.scope], limit=9, without=()) == []


async def test_a_new_file_in_the_place_of_a_cancelled_one_is_taken(world: World) -> None:
    async with world.store() as store:
        await store.settling(world.origin(), world.found("talk.mp3").ref, CLOCK.now())
        with world.control() as control:
            control.cancel([world.job("talk.mp3")])
        (world.inbox / "talk.mp3").rename(world.inbox / "elsewhere")
        (claim,) = await store.claim(world.origin(), [world.found("talk.mp3", "b")])
        assert claim.new


# -- forget ------------------------------------------------------------------------------------------------


async def test_forget_keeps_the_sight_and_drops_text_and_scratch(world: World) -> None:
    async with world.store() as store:
        job = await world.finish(store, await world.claim(store, "talk.mp3"))
        scratch = world.state / "scratch" / f"t{job.transcription}"
        scratch.mkdir(parents=True)
        with world.control() as control:
            (dealt,) = control.forget([job])
            assert dealt.done
            assert control.jobs() == []
        assert not scratch.exists()
        assert list(await known(store, os.fsencode(world.inbox))) == [b"talk.mp3"]
        copy = await world.claim(store, "copy.mp3")
        assert (await stores.begin(store, copy)).transcription.transcript is None


async def test_forget_leaves_the_text_to_the_copies(world: World) -> None:
    async with world.store() as store:
        job = await world.finish(store, await world.claim(store, "talk.mp3"))
        copy = await world.finish(store, await world.claim(store, "copy.mp3"))
        assert copy.state is JobState.DUPLICATE
        with world.control() as control:
            control.forget([job])
            (left,) = control.jobs()
            assert control.job_object(left)["state"] == "duplicate"
        third = await stores.begin(store, await world.claim(store, "third.mp3"))
        assert third.transcription.transcript == TEXT
        assert third.job.duplicate_of == (copy.id, os.fsencode(world.inbox / "copy.mp3"))


async def test_forget_leaves_what_runs_or_settles(world: World) -> None:
    async with world.store() as store:
        running = await stores.begin(store, await world.claim(store, "talk.mp3"))
        await store.settling(world.origin(), world.found("late.mp3", "b").ref, CLOCK.now())
        with world.control() as control:
            results = control.forget([running.job, world.job("late.mp3")])
        assert [result.done for result in results] == [False, False]
        await stores.transcribe(store, running)


async def test_forget_waits_for_files_that_are_being_moved(world: World) -> None:
    async with world.store() as store:
        job = await world.finish(store, await world.claim(store, "talk.mp3"))
        folder = os.fsencode(world.inbox)
        errand = Errand("source", "move", folder, b"talk.mp3", folder + b"/done", b"talk.mp3")
        assert await store.after.plan(job.id, [errand]) == ()
        with world.control() as control:
            (dealt,) = control.forget([job])
            assert (dealt.before, dealt.done) == (JobState.DONE, False)
            await store.after.arrived(job.id, "source", None)
            assert control.forget([job])[0].done


# -- pause and resume --------------------------------------------------------------------------------------


async def test_pause_refuses_requests_and_lets_go_on_what_sends_none(world: World) -> None:
    async with world.store() as store:
        await world.finish(store, await world.claim(store, "talk.mp3"))
        waits = await world.claim(store, "waits.mp3", "b")
        with world.control() as control:
            assert control.pause()
            assert not control.pause()
        refused = await stores.refused(store, stores.ask())
        assert (refused.why, refused.until) == (Refusal.HELD, None)
        copy = await world.claim(store, "copy.mp3")  # its text is stored
        late = await world.claim(store, "late.mp3", "c")
        assert await store.ready([world.scope], limit=9, without=()) == [copy]
        assert await stores.skipped(store, waits) == "paused by command"
        for job_id in (waits, late):
            waiting = (await stores.the_job(store, job_id)).waiting
            assert waiting is not None
            assert waiting.reason is WaitReason.PAUSED
        assert (await world.finish(store, copy)).state is JobState.DUPLICATE
        with world.control() as control:
            assert control.resume().lifted == ("",)
            assert not control.resume()
        assert (await stores.the_job(store, waits)).waiting is None
        assert set(await store.ready([world.scope], limit=9, without=())) == {waits, late}
        await stores.granted(store, stores.ask())


async def test_a_job_that_meets_the_pause_on_its_way_waits_uncounted(world: World) -> None:
    async with world.store() as store:
        lease = await stores.begin(store, await world.claim(store, "talk.mp3"))
        with world.control() as control:
            control.pause()
        await store.finish(lease, Wait(Waiting(WaitReason.PAUSED)))
        job = await stores.the_job(store, lease.job.id)
        assert (job.state, job.failures) == (JobState.QUEUED, 0)
        assert job.waiting is not None
        assert job.waiting.reason is WaitReason.PAUSED


async def test_an_engine_paused_by_hand_is_not_resumed_by_its_own_success(world: World) -> None:
    async with world.store() as store:
        job_id = await world.claim(store, "talk.mp3")
        in_flight = [await stores.granted(store, stores.ask()) for _ in range(2)]
        with world.control() as control:
            control.pause("lan")
        await store.close(in_flight[0].reservation, cost_usd=0, fault=Fault("engine.bad_key"))
        await store.close(in_flight[1].reservation, cost_usd=0, fault=None)
        (engine,) = await store.engines()
        assert (engine.state, engine.code, engine.until) == ("paused", "engine.by_hand", None)
        assert (await stores.refused(store, stores.ask())).why is Refusal.PAUSED
        waiting = (await stores.the_job(store, job_id)).waiting
        assert waiting is not None
        assert (waiting.reason, waiting.detail) == (WaitReason.ENGINE_PAUSED, "engine.by_hand")
        await stores.granted(store, stores.ask("another"))
        with world.control() as control:
            assert control.resume("lan").lifted == ("lan",)
        assert (await stores.the_job(store, job_id)).waiting is None


async def test_no_probe_is_sent_while_everything_is_paused(world: World) -> None:
    async with world.store() as store:
        job_id = await world.claim(store, "talk.mp3")
        granted = await stores.granted(store, stores.ask())
        await store.close(granted.reservation, cost_usd=0, fault=Fault("engine.bad_key"))
        with world.control() as control:
            control.pause()
            await store.resume()  # a restart lets engines be probed at once
            assert await store.ready([world.scope], limit=9, without=()) == []
            resumed = control.resume()
        assert (resumed.lifted, resumed.probed) == (("",), ("lan",))
        assert await store.ready([world.scope], limit=9, without=()) == [job_id]


async def test_two_pauses_are_two(world: World) -> None:
    async with world.store() as store:
        job_id = await world.claim(store, "talk.mp3")
        with world.control() as control:
            control.pause("lan")
            control.pause()
            assert control.resume("lan").still_held
            waiting = (await stores.the_job(store, job_id)).waiting
            assert waiting is not None
            assert waiting.reason is WaitReason.PAUSED
            control.pause("lan")
            assert set(control.resume().lifted) == {"", "lan"}


def test_pause_before_the_first_start_makes_the_state_folder(world: World) -> None:
    world.state.rmdir()
    with world.control() as control:
        assert control.empty
        control.pause()
    with world.control() as control:
        assert any("tnfd resume" in said for said in control.status()["attention"])
    assert world.state.stat().st_mode & 0o777 == 0o700


# -- redo --------------------------------------------------------------------------------------------------


def redo(world: World, *names: str, engine: str | None = None) -> list[bool]:
    with world.control() as control:
        plan = plan_redo(world.config, {}, CLOCK, [world.job(name) for name in names], engine)
        assert not plan.refused
        return [result.done for result in control.redo(plan)]


async def test_redo_begins_a_new_generation_that_copies_share(world: World) -> None:
    async with world.store() as store:
        first = await world.finish(store, await world.claim(store, "talk.mp3"))
        await world.finish(store, await world.claim(store, "copy.mp3"))
        assert redo(world, "talk.mp3", "copy.mp3") == [True, True]
        lease = await stores.begin(store, first.id)
        assert lease.transcription.id != first.transcription
        assert lease.transcription.transcript is None
        assert lease.transcription.generation > 0  # else the status file on disk would be adopted
        assert lease.job.profile == first.profile
        copy = world.job("copy.mp3")
        assert await stores.skipped(store, copy.id) == "the original is in work"
        await stores.transcribe(store, lease)
        assert (await store.finish(lease, Done())) is not None
        assert (await world.finish(store, copy.id)).duplicate_of is not None
        late = await stores.begin(store, await world.claim(store, "late.mp3"))
        assert late.transcription.id == lease.transcription.id


async def test_redo_uses_the_settings_as_they_are_now(world: World) -> None:
    text = world.file.read_text().replace('whisper-x"', 'whisper-y"')
    async with world.store() as store:
        old = await world.finish(store, await world.claim(store, "talk.mp3"))
        world.config = check_text(text, world.file, {})
        redo(world, "talk.mp3")
        lease = await stores.begin(store, old.id)
        assert [choice.model for choice in lease.job.settings.engines] == ["whisper-y"]
        assert lease.job.profile != old.profile
        await stores.transcribe(store, lease)
        await store.finish(lease, Done())
        redo(world, "talk.mp3", engine="paid")
        again = await stores.begin(store, old.id)
        assert [choice.name for choice in again.job.settings.engines] == ["paid"]
        assert again.transcription.generation > 0  # though no other has this profile


async def test_redo_keeps_the_reserved_names(world: World) -> None:
    folder = os.fsencode(world.inbox)
    async with world.store() as store:
        lease = await stores.begin(store, await world.claim(store, "talk.mp3"))
        await stores.transcribe(store, lease)
        assert await store.reserve_output(lease, "txt", folder, b"talk.txt")
        await store.output_written(lease, "txt", "0" * 64)
        await store.finish(lease, Done(("draft",)))
        redo(world, "talk.mp3")
        job = await stores.the_job(store, lease.job.id)
        assert [(output.name, output.sha256) for output in job.outputs] == [(b"talk.txt", "0" * 64)]
        assert (job.state, job.started_at, job.usage.requests) == (JobState.QUEUED, None, 0)


async def test_a_plan_counts_a_content_once_and_names_its_price(world: World) -> None:
    async with world.store() as store:
        for name in ("a.mp3", "b.mp3"):
            await world.finish(store, await world.claim(store, name, "x" * 140_000))
        with world.control() as control:
            plan = plan_redo(world.config, {}, CLOCK, control.jobs(), "paid")
    assert [item.pays for item in plan.items] == [True, False]
    assert plan.audio_s == pytest.approx(10.0)  # 140 kB at 112 kbit a second
    assert plan.cost_usd == pytest.approx(0.00075)
    assert plan.may_cost
    assert plan.engines == ("paid (gpt-transcribe) at https://api.openai.com/v1",)


async def test_a_plan_says_why_files_are_left_out(world: World) -> None:
    async with world.store() as store:
        for name in ("gone.mp3", "changed.mp3", "moved.mp3"):
            await world.finish(store, await world.claim(store, name, name))
        await world.claim(store, "queued.mp3", "queued")
        elsewhere = Origin("batch:1", "batch", world.origin().settings)
        (claim,) = await store.claim(elsewhere, [world.found("batch.mp3", "batch")])
        await world.finish(store, claim.job)
        lease = await stores.begin(store, await world.claim(store, "failed.mp3", "failed"))
        await store.finish(lease, Fail("media.corrupt", "", "", retryable=False))
        (world.inbox / "gone.mp3").unlink()
        (world.inbox / "changed.mp3").write_text("another content")
        (world.inbox / "moved.mp3").chmod(0o600)  # another ctime, no other content
        with world.control() as control:
            plan = plan_redo(world.config, {}, CLOCK, control.jobs(), None)
    why = {job.source.name.decode(): reason for job, reason in plan.refused}
    assert sorted(why) == ["batch.mp3", "changed.mp3", "gone.mp3", "queued.mp3"]
    assert "tnfd batch --redo" in why["batch.mp3"]
    assert "nothing to do again yet" in why["queued.mp3"]
    assert {item.job.source.name for item in plan.items} == {b"moved.mp3", b"failed.mp3"}


async def test_a_redo_of_what_changed_meanwhile_does_nothing(world: World) -> None:
    async with world.store() as store:
        await world.finish(store, await world.claim(store, "talk.mp3"))
        with world.control() as control:
            plan = plan_redo(world.config, {}, CLOCK, control.jobs(), None)
            assert [result.done for result in control.redo(plan)] == [True]
            assert [result.done for result in control.redo(plan)] == [False]
