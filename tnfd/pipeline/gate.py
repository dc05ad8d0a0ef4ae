"""The only way to send anything to an engine: asks the ledger before, tells it the cost and the end after.

Owns the waiting for a slot within this process. Long waits are not waited here: the job gives its worker up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from tnfd import faultpoints
from tnfd.errors import Fate, Fault
from tnfd.model import Waiting, WaitReason
from tnfd.ports.clock import Clock
from tnfd.ports.engine import Engine
from tnfd.ports.ledger import Ask, Closed, Granted, Ledger, Refusal, Refused
from tnfd.through import through

_log = structlog.get_logger("tnfd.gate")

_POLL_S = 0.2  # slots that another process frees are not announced
_PATIENCE_S = 5.0  # shorter waits are waited with the worker in hand

_REASON = {
    Refusal.BLOCKED: WaitReason.RATE_LIMIT,
    Refusal.PAUSED: WaitReason.ENGINE_PAUSED,
    Refusal.BUDGET: WaitReason.BUDGET,
}


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


class Gate:
    """``async with gate.request(...)`` around each request."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._said_budget: str | None = None

    @contextlib.asynccontextmanager
    async def request(self, engine: Engine, *, job: str, inbox: str, audio_s: float) -> AsyncIterator[Ticket]:
        """Wait for permission, hold the slot while the request runs, book its end.

        Raises:
            MustWait: permission will not come soon.
            Fault: the request's own; ``engine.down`` in its place once failures have opened the breaker.
        """
        most = engine.capabilities.max_concurrency
        slots = self._slots.setdefault(engine.name, asyncio.Semaphore(most))
        estimate_usd = audio_s / 60 * engine.capabilities.usd_per_minute
        ask = Ask(engine.name, job, inbox, audio_s, estimate_usd, most)
        async with slots:
            granted = await self._enter(ask)
            faultpoints.reach("gate.reserved")
            ticket = Ticket(estimate_usd)
            try:
                yield ticket
            except Fault as fault:
                cost = ticket.estimate_usd if fault.maybe_paid else 0.0
                closed = await self._leave(ask, granted, cost, fault)
                if closed.down and fault.fate is Fate.ATTEMPT:
                    raise Fault("engine.down", fault.message) from fault
                raise
            except BaseException:
                # Cut off in the middle: whether it was paid is not known, so it counts as paid.
                await self._leave(ask, granted, ticket.estimate_usd, Fault("source.changed"))
                raise
            cost = ticket.estimate_usd if ticket.cost_usd is None else ticket.cost_usd
            await self._leave(ask, granted, cost, None)

    async def _enter(self, ask: Ask) -> Granted:
        while True:
            answer = await self._ledger.reserve(ask)
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
        if answer.why is Refusal.BLOCKED and answer.until is not None:
            left_s = (answer.until - self._clock.now()).total_seconds()
            return max(left_s, 0.01) if left_s <= _PATIENCE_S else None
        return None

    def _say(self, answer: Refused) -> None:
        key = f"{answer.why}{answer.until}"
        if answer.why is Refusal.BUDGET and key != self._said_budget:
            self._said_budget = key
            _log.warning("budget.reached", detail=answer.detail, until=_iso(answer.until))

    async def _leave(self, ask: Ask, granted: Granted, cost_usd: float, fault: Fault | None) -> Closed:
        closed = await through(self._ledger.close(granted.reservation, cost_usd=cost_usd, fault=fault))
        if closed.paused and fault is not None:
            _log.warning(
                "engine.paused",
                engine=ask.engine,
                code=closed.code,
                reason=fault.message,
                hint=fault.hint,
                until=_iso(closed.probe_at),
            )
        if closed.resumed:
            _log.info("engine.resumed", engine=ask.engine)
        if closed.throttled_until is not None:
            _log.info("engine.throttled", engine=ask.engine, until=_iso(closed.throttled_until))
        return closed


def _iso(at: object) -> str | None:
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"
