"""The only way to send anything to an engine: asks the ledger before, tells it the cost and the end after.

Owns the waiting for a slot within this process. Long waits are not waited here: the job gives its worker up.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import structlog

from tnfd import faultpoints
from tnfd.errors import Fate, Fault
from tnfd.model import Waiting, WaitReason
from tnfd.pipeline.slots import FairSlots
from tnfd.ports.clock import Clock
from tnfd.ports.engine import Engine, Limited
from tnfd.ports.ledger import Ask, Closed, Granted, Ledger, Refusal, Refused
from tnfd.ports.progress import Progress, Stage, Unheard
from tnfd.rules.pauses import is_charged
from tnfd.rules.throttle import Stated
from tnfd.through import through

_log = structlog.get_logger("tnfd.gate")

_LEAST_USD = 0.001  # some request may cost this little
_LEAST_WAIT_S = 0.001  # the moment has just passed
_POLL_S = 0.2  # slots that another process frees are not announced
_PATIENCE_S = 5.0  # shorter waits are waited with the worker in hand
# ...and for its turn at a limited rate it may wait longer: nobody else could send either.
_PACED_PATIENCE_S = 60.0

_REASON = {
    Refusal.PACED: WaitReason.RATE_LIMIT,
    Refusal.BLOCKED: WaitReason.RATE_LIMIT,
    Refusal.PAUSED: WaitReason.ENGINE_PAUSED,
    Refusal.HELD: WaitReason.PAUSED,
    Refusal.BUDGET: WaitReason.BUDGET,
}


_CUT_OFF = Fault("source.changed")  # says nothing about the engine


class MustWait(Exception):
    """The request may not be sent for a while."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__(waiting.reason)
        self.waiting = waiting


@dataclass(slots=True)
class Ticket:
    """One granted request; whoever sends it says what it cost."""

    estimate_usd: float
    cost_usd: float | None = None

    @property
    def paid_usd(self) -> float:
        """What was paid, as far as is known."""
        return self.estimate_usd if self.cost_usd is None else self.cost_usd


@dataclass(frozen=True, slots=True)
class _End:
    ask: Ask
    granted: Granted
    cost_usd: float
    fault: Fault | None
    stated: Stated | None = None


class Gate:
    """``async with gate.request(...)`` around each request."""

    def __init__(self, ledger: Ledger, clock: Clock, progress: Progress | None = None) -> None:
        self._ledger = ledger
        self._progress = progress or Unheard()
        self._clock = clock
        self._slots: dict[str, FairSlots] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._said_budget: str | None = None
        self._owed: list[_End] = []  # ends that the ledger could not write down

    def forget(self, engine: str) -> None:
        """An engine may have other slots from now on; the ledger counts those that are still taken."""
        self._slots.pop(engine, None)

    async def expect(self, engine: Engine, *, job: str, inbox: str) -> None:
        """Ask before preparing a recording whether it could be sent at all; full slots do not count.

        Raises:
            MustWait: it could not, for a while.
        """
        paid = engine.capabilities.usd_per_minute > 0
        ask = Ask(engine.name, job, inbox, 0.0, _LEAST_USD if paid else 0.0, sys.maxsize)
        answer = await self._ledger.refusal(ask)
        if answer is not None and self._wait_s(answer) is None:
            self._say(answer)
            raise MustWait(Waiting(_REASON[answer.why], answer.until, answer.detail))

    @contextlib.asynccontextmanager
    async def request(self, engine: Engine, *, job: str, inbox: str, audio_s: float) -> AsyncIterator[Ticket]:
        """Wait for permission, hold the slot while the request runs, book its end.

        Raises:
            MustWait: permission will not come soon.
            Fault: the request's own; ``engine.down`` in its place once failures have opened the breaker.
        """
        can = engine.capabilities
        slots = self._slots.setdefault(engine.name, FairSlots(can.max_concurrency))
        estimate_usd = audio_s / 60 * can.usd_per_minute
        ask = Ask(
            engine.name, job, inbox, audio_s, estimate_usd, can.max_concurrency,
            requests_per_minute=can.requests_per_minute, careful=isinstance(engine, Limited),
        )  # fmt: skip
        async with slots.turn(job):
            granted = await self._enter(ask)
            faultpoints.reach("gate.reserved")
            self._progress.reached(job, Stage.TRANSCRIBING)
            ticket = Ticket(estimate_usd)
            try:
                yield ticket
            except Fault as fault:
                cost = ticket.paid_usd if fault.maybe_paid or ticket.cost_usd is not None else 0.0
                closed = await self._leave(ask, granted, cost, fault, engine)
                seen = self._seen_whole(fault, closed, ask)
                if seen is not fault:
                    raise seen from fault
                raise
            except BaseException:
                # Cut off in the middle: whether it was paid is not known, so it counts as paid.
                await self._leave(ask, granted, ticket.paid_usd, _CUT_OFF)
                raise
            await self._leave(ask, granted, ticket.paid_usd, None, engine)

    def _seen_whole(self, fault: Fault, closed: Closed, ask: Ask) -> Fault:
        """What a request's failure means, given what the ledger knows of all requests."""
        if closed.chokes:
            return Fault("engine.chokes", fault.message)
        if closed.down and fault.fate is Fate.ATTEMPT and not is_charged(fault, ask.estimate_usd):
            return Fault("engine.down", fault.message)
        if closed.throttled_until is not None and fault.fate is Fate.THROTTLE:
            left_s = (closed.throttled_until - self._clock.now()).total_seconds()
            return Fault(fault.code, fault.detail, hint=fault.hint, retry_after_s=max(left_s, _LEAST_WAIT_S))
        return fault

    async def _enter(self, ask: Ask) -> Granted:
        # One at a time asks and waits for this process, in the order in which they came: of many that wake up
        # for the next token all but one would have woken in vain.
        async with self._turns.setdefault(ask.engine, asyncio.Lock()):
            while True:
                await self._close_owed()
                answer = await through(self._ledger.reserve(ask), partial(self._give_back, ask))
                if isinstance(answer, Granted):
                    return answer
                wait_s = self._wait_s(answer)
                if wait_s is None:
                    self._say(answer)
                    raise MustWait(Waiting(_REASON[answer.why], answer.until, answer.detail))
                await self._clock.sleep(wait_s)

    def _wait_s(self, answer: Refused) -> float | None:
        if answer.why is Refusal.FULL:
            return _POLL_S
        patience_s = {Refusal.BLOCKED: _PATIENCE_S, Refusal.PACED: _PACED_PATIENCE_S}.get(answer.why)
        if patience_s is None or answer.until is None:
            return None
        left_s = (answer.until - self._clock.now()).total_seconds()
        return max(left_s, _LEAST_WAIT_S) if left_s <= patience_s else None

    def _say(self, answer: Refused) -> None:
        key = f"{answer.why}{answer.until}"
        if answer.why is Refusal.BUDGET and key != self._said_budget:
            self._said_budget = key
            _log.warning("budget.reached", detail=answer.detail, until=answer.until)

    async def _give_back(self, ask: Ask, unseen: Granted | Refused) -> None:
        """Whoever asked was stopped while the ledger granted it; nothing was sent."""
        if isinstance(unseen, Granted):
            await self._leave(ask, unseen, 0.0, _CUT_OFF)

    async def _leave(
        self, ask: Ask, granted: Granted, cost_usd: float, fault: Fault | None, engine: Engine | None = None
    ) -> Closed:
        self._progress.spent(ask.job, cost_usd)
        stated = engine.stated if isinstance(engine, Limited) else None
        return await through(self._close(_End(ask, granted, cost_usd, fault, stated)))

    async def _close_owed(self) -> None:
        for _ in range(len(self._owed)):
            if self._owed:  # others may do the same meanwhile
                await through(self._close(self._owed.pop(0)))

    async def _close(self, end: _End) -> Closed:
        ask, fault = end.ask, end.fault
        try:
            closed = await self._ledger.close(
                end.granted.reservation, cost_usd=end.cost_usd, fault=fault, stated=end.stated
            )
        except Fault as full:  # kept, or its slot and its money would be taken for good
            self._owed.append(end)
            _log.warning("gate.not_booked", engine=ask.engine, code=full.code, reason=full.message)
            return Closed()
        faultpoints.reach("gate.booked")
        if closed.paused and fault is not None:
            _log.warning(
                "engine.paused",
                engine=ask.engine,
                code=closed.code,
                reason=fault.message,
                hint=fault.hint,
                until=closed.probe_at,
            )
        if closed.resumed:
            _log.info("engine.resumed", engine=ask.engine)
        if closed.throttled_until is not None:
            _log.info("engine.throttled", engine=ask.engine, until=closed.throttled_until)
        return closed
