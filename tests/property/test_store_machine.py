"""Whatever happens to jobs, processes, engines and the clock: nothing is lost, sent twice or overspent."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.stores import ENGINE, TEXT, AnyStore, Sqlite, Stores, ask, found, origin, ref, transcribe
from tnfd.errors import Fault, LeaseLost
from tnfd.model import Gap, JobState, Waiting, WaitReason
from tnfd.ports.ledger import Granted
from tnfd.ports.queue import (
    Done,
    Fail,
    Lease,
    LookAgain,
    Outcome,
    Partial,
    Released,
    Retry,
    Vanished,
    Wait,
)
from tnfd.rules.states import TRANSITIONS
from tnfd.store.database import FILE_NAME
from tnfd.store.ledger import Budget

T = TypeVar("T")

ORIGINS = [origin(), origin("inbox:/other"), origin("inbox:/in/sub")]
ALL_SCOPES = tuple(one.scope for one in ORIGINS)
MOST_PROCESSES = 3
BUDGET = Budget(daily_usd=1.0, monthly_usd=2.5)
FAULTS: list[Fault | None] = [
    None,
    Fault("engine.bad_key"),
    Fault("engine.down", retry_after_s=3600),
    Fault("engine.timeout", maybe_paid=True),
    Fault("engine.rate_limited", retry_after_s=60),
    Fault("engine.rejected"),
    Fault("source.changed"),
]
WAITS = [reason for reason in WaitReason if reason is not WaitReason.ORIGINAL]
SPANS_S = st.sampled_from([1, 30, 400, 3700, 90_000])
JUMPS_S = st.sampled_from([-400 * 86_400, -86_400, -3600, -3, 3600, 40 * 86_400])

# Written down by the database itself, whoever writes to it.
WATCH = """
CREATE TABLE IF NOT EXISTS seen_move (old TEXT, new TEXT);
CREATE TABLE IF NOT EXISTS seen_resend (id INTEGER);
CREATE TRIGGER IF NOT EXISTS watch_state AFTER UPDATE OF state ON job WHEN old.state <> new.state
BEGIN INSERT INTO seen_move VALUES (old.state, new.state); END;
CREATE TRIGGER IF NOT EXISTS watch_resend AFTER UPDATE OF requests ON transcription
WHEN old.transcript IS NOT NULL
BEGIN INSERT INTO seen_resend VALUES (new.id); END;
CREATE VIEW IF NOT EXISTS seen_money AS
SELECT day, usd FROM spend UNION ALL SELECT day, estimate_usd AS usd FROM reservation;
"""


@dataclass
class Held:
    """A lease that somebody works on, or believes to."""

    owner: str
    lease: Lease
    lost: bool = False


class StoreMachine(RuleBasedStateMachine):
    """Intake, workers, commands and requests of three processes on one state folder."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.stores = Stores(Sqlite(), Path(self.folder.name))
        self.eyes: sqlite3.Connection | None = None
        self.opened = 0
        self.living: dict[str, AnyStore] = {}
        self.held: list[Held] = []
        self.requests: list[tuple[str, int, float]] = []  # owner, reservation, most that it may cost

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    @initialize()
    def begin_with_a_daemon(self) -> None:
        self.open()
        self.eyes = sqlite3.connect(self.stores.place / FILE_NAME, isolation_level=None)
        self.eyes.executescript(WATCH)

    def teardown(self) -> None:
        try:
            if self.living:
                self.everything_can_be_done()
            self.do(self.stores.close_all())
        finally:
            if self.eyes is not None:
                self.eyes.close()
            self.loop.close()
            self.folder.cleanup()

    def some(self, data: st.DataObject) -> AnyStore:
        return self.living[data.draw(st.sampled_from(sorted(self.living)), label="process")]

    # -- processes -------------------------------------------------------------------------------------

    def open(self) -> None:
        self.opened += 1
        owner = f"daemon-{self.opened}"
        self.living[owner] = self.do(self.stores.open(owner, budget=BUDGET))
        self.buried()

    @precondition(lambda self: len(self.living) < MOST_PROCESSES)
    @rule()
    def process_starts(self) -> None:
        self.open()

    @precondition(lambda self: len(self.living) > 1)
    @rule(data=st.data(), clean=st.booleans())
    def process_ends(self, data: st.DataObject, clean: bool) -> None:
        owner = data.draw(st.sampled_from(sorted(self.living)), label="process")
        if clean:
            self.do(self.stores.close(self.living[owner]))
            self.forget(owner)
            self.lose(lambda held: held.owner == owner)
        else:
            self.kill(owner)

    def kill(self, owner: str) -> None:
        self.do(self.stores.kill(self.living[owner]))
        self.forget(owner)

    def forget(self, owner: str) -> None:
        del self.living[owner]
        self.requests = [one for one in self.requests if one[0] != owner]

    @rule(data=st.data())
    def dead_are_buried(self, data: st.DataObject) -> None:
        self.do(self.some(data).bury_dead())
        self.buried()

    def buried(self) -> None:
        self.lose(lambda held: held.owner not in self.living)

    def lose(self, which: Any) -> None:
        for held in self.held:
            held.lost |= which(held)

    def tick(self) -> None:
        """Let ids differ by their time, so that lists come in the same order when an example is run again."""
        self.do(self.stores.clock.advance(0.01))

    # -- intake ----------------------------------------------------------------------------------------

    @rule(
        data=st.data(),
        where=st.sampled_from(ORIGINS),
        rel=st.sampled_from("ab"),
        content=st.sampled_from("xy"),
        twice=st.booleans(),
    )
    def file_is_claimed(self, data: st.DataObject, where: Any, rel: str, content: str, twice: bool) -> None:
        self.tick()
        one = found(rel, content, self.stores.now, root=where.scope.partition(":")[2].encode())
        claims = self.do(self.some(data).claim(where, [one] * (1 + twice)))
        assert len({claim.job for claim in claims}) == 1
        assert not any(claim.new for claim in claims[1:])

    @rule(data=st.data(), rel=st.sampled_from("ab"), how=st.sampled_from(["grows", "leaves", "refused"]))
    def file_is_not_finished(self, data: st.DataObject, rel: str, how: str) -> None:
        self.tick()
        store = self.some(data)
        if how == "grows":
            self.do(store.settling(ORIGINS[0], ref(rel), self.stores.now))
        elif how == "leaves":
            self.do(store.gone(b"/in", [rel.encode()]))
        else:
            self.do(store.refuse(ORIGINS[0], ref(rel), self.stores.now, Fault("media.empty")))

    # -- work ------------------------------------------------------------------------------------------

    @rule(data=st.data())
    def worker_begins(self, data: st.DataObject) -> None:
        self.begin(data)

    def begin(self, data: st.DataObject) -> Held | None:
        owner = data.draw(st.sampled_from(sorted(self.living)), label="process")
        store = self.living[owner]
        ids = self.do(store.ready(ALL_SCOPES, limit=10, without=()))
        lease = self.do(store.begin(data.draw(st.sampled_from(ids), label="job"))) if ids else None
        if not isinstance(lease, Lease):
            return None
        assert lease.epoch == lease.job.lease_epoch
        self.held.append(Held(owner, lease))
        return self.held[-1]

    @rule(data=st.data(), span=SPANS_S, reason=st.sampled_from(WAITS))
    def worker_must_wait(self, data: st.DataObject, span: int, reason: WaitReason) -> None:
        held = self.begin(data)
        if held is not None:
            self.held.remove(held)
            until = self.stores.now + timedelta(seconds=span)
            self.finish(self.living[held.owner], held, Wait(Waiting(reason, until, "x")))

    @precondition(lambda self: len(self.living) > 1)
    @rule(data=st.data())
    def worker_s_process_dies_and_another_goes_on(self, data: st.DataObject) -> None:
        held = self.begin(data)
        if held is None or len(self.living) < 2:
            return
        self.kill(held.owner)
        self.do(self.some(data).bury_dead())
        self.buried()
        if self.begin(data) is not None:  # the dead one's last word comes late
            self.held.remove(held)
            self.finish(self.some(data), held, Released())

    def draw_held(self, data: st.DataObject) -> Held | None:
        usable = [held for held in self.held if held.lost or held.owner in self.living]
        return data.draw(st.sampled_from(usable), label="lease") if usable else None

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def worker_transcribes(self, data: st.DataObject) -> None:
        held = self.draw_held(data)
        if held is None or (held.lease.transcription.transcript is not None and not held.lost):
            return  # there is nothing to send: the handler goes on to deliver
        store = self.living.get(held.owner) or self.some(data)
        if held.lost:
            with pytest.raises(LeaseLost):
                self.do(transcribe(store, held.lease))
        else:
            self.do(transcribe(store, held.lease))
            self.held.remove(held)
            self.finish(store, held, Done())

    @precondition(lambda self: self.held)
    @rule(data=st.data(), span=SPANS_S)
    def worker_ends(self, data: st.DataObject, span: int) -> None:
        held = self.draw_held(data)
        if held is None:
            return
        until = self.stores.now + timedelta(seconds=span)
        outcomes: list[Outcome] = [
            Retry(float(span), "engine.timeout", "m", "h"),
            Fail("media.corrupt", "m", "h", retryable=False),
            Fail("engine.timeout", "m", "h", retryable=True, counted=True),
            Released(),
            LookAgain(),
            Vanished(),
            *(
                Wait(Waiting(reason, until, "x"))
                for reason in WaitReason
                if reason is not WaitReason.ORIGINAL
            ),
        ]
        if held.lease.transcription.transcript is not None:
            outcomes += [Done(("draft",)), Partial((Gap(0.0, 1.0, "engine.rejected"),))]
        outcome = data.draw(st.sampled_from(outcomes), label="outcome")
        self.held.remove(held)
        self.finish(self.living.get(held.owner) or self.some(data), held, outcome)

    def finish(self, store: AnyStore, held: Held, outcome: Outcome) -> None:
        before = self.do(store.job(held.lease.job.id))
        finished = self.do(store.finish(held.lease, outcome))
        assert (finished is None) is held.lost
        if held.lost:
            assert self.do(store.job(held.lease.job.id)) == before
        assert self.do(store.finish(held.lease, outcome)) is None

    @rule(data=st.data())
    def user_retries(self, data: st.DataObject) -> None:
        store = self.some(data)
        jobs = self.do(store.jobs())
        if jobs:
            self.do(store.retry([data.draw(st.sampled_from(jobs), label="job").id]))

    # -- requests --------------------------------------------------------------------------------------

    @rule(data=st.data(), usd=st.sampled_from([0.0, 0.1, 0.3, 0.7]))
    def request_is_sent(self, data: st.DataObject, usd: float) -> None:
        owner = data.draw(st.sampled_from(sorted(self.living)), label="process")
        answer = self.do(self.living[owner].reserve(ask(ENGINE.name, usd, most=3)))
        if isinstance(answer, Granted):
            self.requests.append((owner, answer.reservation, usd))

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), fault=st.sampled_from(FAULTS), share=st.sampled_from([0.0, 0.5, 1.0]))
    def request_ends(self, data: st.DataObject, fault: Fault | None, share: float) -> None:
        one = data.draw(st.sampled_from(self.requests), label="request")
        self.requests.remove(one)
        owner, reservation, usd = one
        self.do(self.living[owner].close(reservation, cost_usd=usd * share, fault=fault))

    @rule(data=st.data(), engine=st.sampled_from([None, ENGINE.name]))
    def user_resumes(self, data: st.DataObject, engine: str | None) -> None:
        self.do(self.some(data).resume(engine))

    # -- time ------------------------------------------------------------------------------------------

    @rule(span=SPANS_S)
    def time_passes(self, span: int) -> None:
        self.do(self.stores.clock.advance(span))

    @rule(jump=JUMPS_S)
    def clock_is_set(self, jump: int) -> None:
        self.stores.clock.jump_wall(jump)

    # -- what always holds -----------------------------------------------------------------------------

    def rows(self, query: str) -> list[Any]:
        return [] if self.eyes is None else self.eyes.execute(query).fetchall()

    @invariant()
    def states_move_by_the_table(self) -> None:
        for old, new in self.rows("SELECT DISTINCT old, new FROM seen_move"):
            assert JobState(new) in TRANSITIONS[JobState(old)]

    @invariant()
    def what_was_transcribed_is_never_sent_again(self) -> None:
        assert self.rows("SELECT * FROM seen_resend") == []

    @invariant()
    def a_transcription_is_worked_on_by_one(self) -> None:
        crowded = (
            "SELECT t.id FROM job AS j JOIN transcription AS t ON t.id = j.transcription"
            " WHERE j.state = 'running' AND t.transcript IS NULL GROUP BY t.id HAVING count(*) > 1"
        )
        assert self.rows(crowded) == []

    @invariant()
    def nobody_unknown_holds_anything(self) -> None:
        holders = self.rows(
            "SELECT lease_owner FROM job WHERE state = 'running' UNION SELECT owner FROM reservation"
        )
        known = {owner for (owner,) in self.rows("SELECT owner FROM process")}
        assert {owner for (owner,) in holders} <= known

    @invariant()
    def money_is_never_overspent(self) -> None:
        days = self.rows("SELECT sum(usd) FROM seen_money GROUP BY day")
        months = self.rows("SELECT sum(usd) FROM seen_money GROUP BY substr(day, 1, 7)")
        assert all(usd <= BUDGET.daily_usd + 1e-6 for (usd,) in days)
        assert all(usd <= BUDGET.monthly_usd + 1e-6 for (usd,) in months)

    @invariant()
    def a_job_waits_for_an_original_only_while_there_is_one(self) -> None:
        forlorn = (
            "SELECT j.id FROM job AS j JOIN transcription AS t ON t.id = j.transcription"
            " LEFT JOIN job AS o ON o.id = t.owner_job AND o.transcription = t.id"
            " WHERE j.state = 'queued' AND j.waiting_reason = 'original'"
            " AND (t.transcript IS NOT NULL AND o.state IS NOT 'running'"
            "      OR o.state IS NULL OR o.state NOT IN ('queued', 'running'))"
        )
        assert self.rows(forlorn) == []

    def everything_can_be_done(self) -> None:
        """Once all is well again, every job that is owed gets done within days."""
        store = next(iter(self.living.values()))
        for owner in [owner for owner, living in self.living.items() if living is not store]:
            self.kill(owner)
        self.do(store.bury_dead())
        self.do(store.reclaim())
        for owner, reservation, _ in self.requests:
            if owner in self.living:
                self.do(store.close(reservation, cost_usd=0.0, fault=None))
        self.do(store.resume())
        for _ in range(200):
            ids = self.do(store.ready(ALL_SCOPES, limit=50, without=()))
            if not ids:
                if not any(job.state is JobState.QUEUED for job in self.do(store.jobs())):
                    break
                self.do(self.stores.clock.advance(3700))
                continue
            lease = self.do(store.begin(ids[0]))
            if isinstance(lease, Lease):
                if lease.transcription.transcript is None:
                    answer = self.do(store.reserve(ask(ENGINE.name, 0.0)))
                    if not isinstance(answer, Granted):
                        waiting = Waiting(WaitReason.ENGINE_PAUSED, answer.until, answer.detail)
                        self.do(store.finish(lease, Wait(waiting)))
                        continue
                    self.do(transcribe(store, lease, TEXT))
                    self.do(store.close(answer.reservation, cost_usd=0.0, fault=None))
                assert self.do(store.finish(lease, Done())) is not None
        owed = [job for job in self.do(store.jobs()) if job.state in (JobState.QUEUED, JobState.RUNNING)]
        assert owed == []
        assert all(one.in_flight == 0 for one in self.do(store.engines()))


@pytest.mark.timeout(300)  # finding the smallest example of a failure takes its time
def test_store_machine() -> None:
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
