"""What a batch knows of its files while it runs: one item a file, sums, notices. Whoever shows it reads it.

Owns nothing on disk and decides nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from tnfd.model import FileRef, Job, JobState
from tnfd.ports.batch import Former
from tnfd.ports.claims import Origin
from tnfd.ports.clock import Clock
from tnfd.ports.ledger import EngineStatus
from tnfd.ports.progress import Stage


class Result(StrEnum):
    """What came of a file."""

    DONE = "done"
    DUPLICATE = "duplicate"  # its text came from another file with the same content
    RENDERED = "rendered"  # only outputs were owed; the text was stored already
    ADOPTED = "adopted"  # another tnfd has done it: its status file and its outputs were found
    ALREADY = "already_done"  # nothing was owed
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    VANISHED = "vanished"
    WAITING = "waiting"  # not done; the same command goes on with it
    GROWING = "growing"  # somebody still writes to it


_OF_STATE = {
    JobState.DONE: Result.DONE,
    JobState.DUPLICATE: Result.DUPLICATE,
    JobState.PARTIAL: Result.PARTIAL,
    JobState.FAILED: Result.FAILED,
    JobState.CANCELLED: Result.CANCELLED,
    JobState.VANISHED: Result.VANISHED,
}


def result_of(state: JobState) -> Result:
    """What a job's state means for its file at the end of a batch."""
    return _OF_STATE.get(state, Result.WAITING)


@dataclass(slots=True)
class Item:
    """One file. ``about_s``: its seconds of audio as guessed; ``audio_s``: as measured, once it was."""

    ref: FileRef
    origin: Origin
    about_s: float
    inboxed: bool = False
    priority: int = 0  # higher ones are worked on first
    flags: tuple[str, ...] = ()
    formers: tuple[Former, ...] = ()
    job: str | None = None
    stage: str = ""
    since: float = 0.0  # monotonic second at which it came to this stage
    done: int = 0
    total: int = 0
    audio_s: float | None = None
    cost_usd: float = 0.0  # in this run
    rendered: bool = False  # only outputs are owed
    adopted: bool = False
    result: Result | None = None
    reason: str = ""  # where there is no job that says it
    final: Job | None = None

    @property
    def length_s(self) -> float:
        """Seconds of audio, as well as they are known."""
        return self.about_s if self.audio_s is None else self.audio_s


@dataclass(frozen=True, slots=True)
class Event:
    """A line for people: something happened. ``level`` is info, warning or error."""

    text: str
    level: str = "info"
    item: Item | None = None


@dataclass(slots=True)
class Board:
    """All items and what happens to them; hears of progress (``ports.progress.Progress``)."""

    clock: Clock
    items: list[Item] = field(default_factory=list)
    ignored: list[tuple[bytes, str]] = field(default_factory=list)
    engines: tuple[EngineStatus, ...] = ()
    waits: str = ""  # why nothing goes on at the moment
    started_at: datetime | None = None
    begun: float | None = None  # monotonic second of the first request
    counts: dict[Result, int] = field(default_factory=dict)
    ended_s: float = 0.0  # audio of files that need nothing more
    heard_s: float = 0.0  # audio that this run has finished
    cost_usd: float = 0.0
    requests: int = 0
    events: deque[Event] = field(default_factory=deque)
    before_sending: Callable[[str], None] | None = None  # told of each job that would send something
    _busy: dict[int, Item] = field(default_factory=dict)
    _by_job: dict[str, Item] = field(default_factory=dict)

    # -- what others tell ----------------------------------------------------------------------------

    def reached(self, job: str, stage: Stage, *, done: int = 0, total: int = 0) -> None:
        """See ``ports.progress``."""
        item = self._by_job.get(job)
        if item is None:
            return
        if total:
            item.done, item.total = done, total
        if stage is Stage.TRANSCRIBING and self.begun is None:
            self.begun = self.clock.monotonic()
        self.at(item, stage)
        if stage is Stage.WAITING and self.before_sending is not None:
            self.before_sending(job)

    def measured(self, job: str, audio_s: float) -> None:
        """See ``ports.progress``."""
        item = self._by_job.get(job)
        if item is not None and audio_s > 0:
            item.audio_s = audio_s

    def spent(self, job: str, cost_usd: float) -> None:
        """See ``ports.progress``."""
        self.cost_usd += cost_usd
        self.requests += 1
        item = self._by_job.get(job)
        if item is not None:
            item.cost_usd += cost_usd

    def at(self, item: Item, stage: str) -> None:
        """An item has come to a stage; "" is none."""
        if item.result is not None:
            return
        if item.stage != stage:
            item.stage, item.since = stage, self.clock.monotonic()
        if stage:
            self._busy[id(item)] = item
        else:
            self._busy.pop(id(item), None)

    def taken(self, item: Item, job: str) -> None:
        """An item has a job."""
        item.job = job
        self._by_job[job] = item

    def end(self, item: Item, result: Result, job: Job | None = None, reason: str = "") -> None:
        """Nothing more happens to an item."""
        if item.result is not None:
            return
        if result in (Result.DONE, Result.DUPLICATE):
            result = Result.RENDERED if item.rendered else Result.ADOPTED if item.adopted else result
        self.at(item, "")
        item.result, item.final, item.reason = result, job, reason
        if job is not None and job.media is not None and job.media.duration_s and item.audio_s is None:
            item.audio_s = job.media.duration_s
        self.counts[result] = self.counts.get(result, 0) + 1
        self.ended_s += item.length_s
        if result in (Result.DONE, Result.DUPLICATE, Result.PARTIAL):
            self.heard_s += item.length_s
        self.say(Event("", "info", item))

    def say(self, event: Event) -> None:
        """Leave a line for whoever shows them."""
        self.events.append(event)

    # -- what people ask -----------------------------------------------------------------------------

    def item_of(self, job: str) -> Item | None:
        """The item of a job."""
        return self._by_job.get(job)

    @property
    def busy(self) -> list[Item]:
        """Items in progress, those being transcribed first, the oldest of them first."""
        order = {Stage.TRANSCRIBING: 0, Stage.WRITING: 1, Stage.WAITING: 2, Stage.PREPARING: 3}
        return sorted(
            self._busy.values(),
            key=lambda item: (order.get(item.stage, 4), item.since),  # type: ignore[call-overload]
        )

    @property
    def ended(self) -> int:
        """How many items need nothing more."""
        return sum(self.counts.values())

    @property
    def total_s(self) -> float:
        """Seconds of audio of all items, as well as they are known."""
        return sum(item.length_s for item in self.items)

    def of(self, *results: Result) -> Iterator[Item]:
        """Items that ended so."""
        return (item for item in self.items if item.result in results)

    def left_s(self) -> float | None:
        """Seconds until all is done, from the pace so far; None while that says nothing."""
        if self.begun is None:
            return None
        passed_s = self.clock.monotonic() - self.begun
        owed_s = 0.0
        for item in self.items:
            if item.result is None:
                part = item.done / item.total if item.total else 0.0
                owed_s += item.length_s * (1 - part)
        made_s = sum(item.length_s for item in self.of(Result.DONE, Result.PARTIAL, Result.DUPLICATE))
        made_s += sum(item.length_s * item.done / item.total for item in self.busy if item.total)
        if made_s <= 0 or passed_s < 1:
            return None
        return passed_s * owed_s / made_s
