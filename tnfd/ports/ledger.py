"""Permission to send: concurrency, pauses, patience and money, shared by all processes of a state folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from tnfd.errors import Fault
from tnfd.rules.throttle import Stated


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that somebody wants to send. ``estimate_usd`` is the most that it may cost.

    ``requests_per_minute`` caps the rate; 0: only the server's own limit does. ``careful``: as long as no
    answer of the engine was ever seen, its limits are felt for.
    """

    engine: str
    job: str
    inbox: str
    audio_s: float
    estimate_usd: float
    max_concurrency: int
    requests_per_minute: float = 0.0
    careful: bool = False


class Refusal(StrEnum):
    """Why a request may not be sent now."""

    FULL = "full"  # all slots are in use; ask again when one ends
    PACED = "paced"  # the rate is used up until then
    BLOCKED = "blocked"  # the server asked for patience
    PAUSED = "paused"  # this engine, by its failures or by command
    HELD = "held"  # everything, by command
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class Granted:
    """Send. ``probe``: the engine is paused and this request finds out whether it is well again."""

    reservation: int
    probe: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """Do not send; ask again at ``until`` (None: when something changes)."""

    why: Refusal
    until: datetime | None
    detail: str


@dataclass(frozen=True, slots=True)
class Closed:
    """What ending a request changed for the engine, for the log."""

    paused: bool = False  # it has just been paused, for this error code:
    code: str = ""
    down: bool = False  # it is paused now, by this or by an earlier failure
    chokes: bool = False  # the engine works, but it fails on this file again and again
    resumed: bool = False
    throttled_until: datetime | None = None
    probe_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One engine as ``status`` shows it."""

    name: str
    state: str  # ok | throttled | paused
    code: str
    detail: str
    until: datetime | None
    in_flight: int
    requests_per_minute: float | None = None  # as the server states it
    level: int | None = None  # requests at once, where that was lowered: so many now


@dataclass(frozen=True, slots=True)
class Spent:
    """Dollars of the local calendar day and month; reservations in flight included."""

    today_usd: float
    month_usd: float


@dataclass(frozen=True, slots=True)
class Spending:
    """One line of the books: what one engine took for one inbox on one local day."""

    day: str  # 2026-11-23
    engine: str
    inbox: str  # its name; of files outside of all inboxes: empty
    usd: float
    audio_s: float
    requests: int


class Ledger(Protocol):
    """One short transaction a call."""

    async def reserve(self, ask: Ask) -> Granted | Refused:
        """Ask to send one request."""
        ...

    async def refusal(self, ask: Ask) -> Refused | None:
        """Why this request could not be sent now; None: it could. Reserves nothing."""
        ...

    async def close(
        self, reservation: int, *, cost_usd: float, fault: Fault | None, stated: Stated | None = None
    ) -> Closed:
        """End a request: what it cost (0 where it was certainly not paid), and how it failed.

        ``stated``: what the newest answer said of the server's limits; None: no answer came.
        """
        ...

    async def resume(self, engine: str | None = None) -> list[str]:
        """Let paused engines be probed at once; names those that were paused."""
        ...

    async def engines(self) -> list[EngineStatus]:
        """All engines that the ledger knows."""
        ...

    async def spent(self) -> Spent:
        """What was spent."""
        ...

    async def spending(self) -> list[Spending]:
        """What was spent this month, by day, engine and inbox; newest day first."""
        ...
