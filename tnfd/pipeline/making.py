"""One recording on its way to text: cuts are made, sent and answered at the same time.

Owns the tasks of one lease, the order of what is done for a cut, and what becomes of one that is refused. All
that was achieved is in the store before the next step begins, so that a restart repeats nothing that was
paid. When something fails, what is in flight still ends, for it is paid for, and nothing new begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import structlog

from tnfd import faultpoints
from tnfd.errors import Fate, Fault
from tnfd.model import SAMPLE_RATE_HZ, ChunkResult, Cut, Encoding, EngineChoice, MediaInfo
from tnfd.pipeline.asking import FALLBACK, Asking, Rooms
from tnfd.pipeline.files import check_settled, open_settled
from tnfd.ports.engine import Engine
from tnfd.ports.media import PrepareRequest, Probed
from tnfd.ports.progress import Stage
from tnfd.ports.queue import Lease
from tnfd.rules.cuts import Limits, Stretch, expected, limits_for, shorter_s, uncovered

_log = structlog.get_logger("tnfd.job")

SHORTEST_S = 0.1  # servers refuse less (facts: 400 "too short")
_MOST_CHANNELS = 8
_SHORT_S = 30.0  # pieces whose words get their times from us: errors stay within one
_AHEAD_BYTES = 64 * 1024 * 1024  # of one recording: encoded, and not answered yet


class Draining(Exception):
    """The process comes to a stop: nothing more is sent for this recording."""


@dataclass(slots=True)
class Made:
    """What has become of a recording: its cuts, answers, the codes of those given up, its length."""

    cuts: dict[int, Cut]
    results: dict[int, ChunkResult]
    losses: dict[int, str]
    media: MediaInfo | None
    samples: int | None  # None: it could not be decoded to its end
    answers: int = 0  # that came in this lease
    broken: str = ""  # the code for which the rest could not be decoded


class Making:
    """Makes one recording's answers. ``folder`` is where its encoded cuts wait. Used once."""

    def __init__(
        self, rooms: Rooms, lease: Lease, engine: Engine, choice: EngineChoice, folder: Path, *,
        last_chance: bool,
    ) -> None:  # fmt: skip
        known = lease.transcription
        self._rooms = rooms
        self._lease = lease
        self._engine = engine
        self._choice = choice
        self._folder = folder
        self._last_chance = last_chance
        self._known_samples = known.samples if known.cuts_complete else None
        self.made = Made(
            {cut.index: cut for cut in known.cuts},
            dict(known.results),
            dict(known.losses),
            known.media,
            self._known_samples,
        )
        self._max_s = known.max_s
        self._asking = Asking(
            rooms, lease, engine, choice, folder, sent=lambda index: self._sent.add(index),
            hurried=lambda: self._draining != "no" or self._stopped is not None,
        )  # fmt: skip
        self._ready: set[int] = set()  # encoded, not answered
        self._tasks: dict[int, asyncio.Task[None]] = {}  # by cut
        self._sent: set[int] = set()  # of these, those in flight
        self._producer: asyncio.Task[None] | None = None
        self._entrance: asyncio.Task[None] | None = None
        self._holds_place = False
        self._admitted = False
        self._stopped: BaseException | None = None
        self._halted = False
        self._next_index = max(self.made.cuts, default=-1) + 1  # never used twice: files have its name
        self._draining: Literal["no", "far", "all"] = "no"
        self._faults: dict[int, Fault] = {}
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    # -- the whole -------------------------------------------------------------------------------------

    async def run(self) -> Made:
        """Return once every cut is answered or given up.

        Raises:
            Fault, MustWait, LeaseLost: see the rooms that this passes through; what was in flight has ended.
            Draining: it was told to.
        """
        try:
            await self._take_stock()
            while self._advance():
                await self._changed.wait()
                self._changed.clear()
        finally:
            await self._end()
        if self._stopped is not None:
            raise self._stopped
        return self.made

    def drain(self, *, strict: bool = False) -> None:
        """Come to a stop after what is in flight; not ``strict``: unless the rest can be sent at once."""
        self._draining = "all" if strict else "far"
        self._changed.set()

    @property
    def sending(self) -> bool:
        """Whether this file has one of the workers."""
        return self._holds_place

    @property
    def fault(self) -> Fault | None:
        """The first fault for which a cut was given up in this lease."""
        return next(iter(self._faults.values()), None)

    def _advance(self) -> bool:
        """Start what can be started; False once nothing more will happen."""
        if self._draining != "no" and self._stopped is None and self._has_far_to_go():
            self._stopped = Draining()
        if self._stopped is not None:
            self._halt()
            return self._alive()
        if self._producer is None and self._owes():
            self._producer = self._start(self._produce(), "cut")
        self._launch()
        return self._alive()

    def _halt(self) -> None:
        """End all but what is in flight; once, as a second cancellation would end the tidying up."""
        if self._halted:
            return
        self._halted = True
        waiting = [task for index, task in self._tasks.items() if index not in self._sent]
        for task in (*waiting, self._producer, self._entrance):
            if task is not None:
                task.cancel()

    def _alive(self) -> bool:
        return bool(self._tasks) or self._producer is not None or self._entrance is not None

    def _has_far_to_go(self) -> bool:
        """Whether more is to be sent than may be on the way to a stop."""
        unsent = self._expected() - len(self.made.results) - len(self.made.losses) - len(self._sent)
        if self._draining == "all":
            return self._owes() or self._producer is not None or unsent > 0
        return unsent > self._engine.capabilities.max_concurrency

    def _expected(self) -> int:
        """How many cuts there will be, as far as can be told."""
        made = self.made
        if made.samples is not None or made.media is None:
            return len(made.cuts)
        length_s = made.media.duration_s
        length_s = None if length_s is None else length_s * made.media.channels
        return max(len(made.cuts), expected(length_s, self._limits()))

    def _launch(self) -> None:
        """Ask for every cut that is ready, once this file may send at all."""
        if not self._ready or self._stopped is not None:
            return
        if not self._admitted:
            if self._entrance is None:
                self._entrance = self._start(self._enter(), "enter")
            return
        for index in sorted(
            self._ready - self._tasks.keys(), key=lambda one: self.made.cuts[one].start_sample
        ):
            self._tasks[index] = self._start(self._ask(self.made.cuts[index]), f"cut {index}")

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)  # noqa: TID251 - ends within run()
        task.set_name(f"job {self._lease.job.id} {name}")
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task is self._producer:
            self._producer = None
        if task is self._entrance:
            self._entrance = None
        for index in [one for one, asking in self._tasks.items() if asking is task]:
            del self._tasks[index]
            self._sent.discard(index)
        if not task.cancelled() and (error := task.exception()) is not None and self._stopped is None:
            self._stopped = error
        self._room.set()
        self._changed.set()

    async def _end(self) -> None:
        """End all tasks; where run() was not cancelled there are none by now."""
        tasks = [*self._tasks.values(), *filter(None, (self._producer, self._entrance))]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._holds_place:
            self._rooms.workers.release()

    async def _enter(self) -> None:
        """Wait until this file may send; nothing is paid for one that is another by now."""
        # A request that the gate has let through leaves at once: the ledger counts the rate by that moment.
        with contextlib.suppress(Fault):  # what is wrong is said when it is asked, where the ledger hears it
            await self._engine.warm()
        await self._rooms.workers.acquire()
        self._holds_place = True
        if not self._lease.transcription.results:
            await self._rooms.files.run(self._lease.job.source.root, check_settled, self._lease.job.present)
        self._admitted = True

    # -- cutting ---------------------------------------------------------------------------------------

    @property
    def _encoding(self) -> Encoding:
        return self._rooms.lessons.encoding.get(self._engine.name, self._engine.capabilities.encoding)

    def _limits(self) -> Limits:
        can = self._engine.capabilities
        learned = [one for one in (self._max_s, self._rooms.lessons.longest_s.get(self._engine.name)) if one]
        longest_s = can.max_s
        if self._asking.want_times and not can.timestamps and self._rooms.hearing is not None:
            longest_s = min(longest_s, _SHORT_S)  # the price goes by the minute: the same for short pieces
        return limits_for(
            self._encoding, max_s=longest_s, max_bytes=can.max_bytes, slots=can.max_concurrency,
            learned_s=min(learned, default=None),
        )  # fmt: skip

    async def _take_stock(self) -> None:
        """Find out which encoded cuts of an earlier run are still there."""
        if self._lease.transcription.encoding != self._engine.capabilities.encoding:
            await self._rooms.store.restart_cuts(self._lease, self._engine.capabilities.encoding)
            made = self.made
            made.cuts = {index: cut for index, cut in made.cuts.items() if index in made.results}
            made.losses, made.samples, self._max_s = {}, None, None
        open_cuts = self._open_cuts()
        self._ready = await asyncio.to_thread(_on_disk, self._folder, open_cuts)

    def _open_cuts(self) -> list[Cut]:
        """Neither answered nor given up."""
        made = self.made
        return [
            cut for index, cut in made.cuts.items() if index not in made.results and index not in made.losses
        ]

    def _wanted(self) -> list[Cut]:
        """Known and not encoded."""
        return [
            cut for cut in self._open_cuts() if cut.index not in self._ready and cut.index not in self._tasks
        ]

    def _stretches(self) -> list[Stretch]:
        return uncovered(self.made.cuts.values(), self.made.samples)

    def _owes(self) -> bool:
        return not self.made.broken and bool(self._wanted() or self._stretches())

    async def _produce(self) -> None:
        """Decode the recording once, and encode what is owed by now."""
        before = len(self.made.cuts), self.made.samples
        try:
            await self._pass()
            if self._owes() and (len(self.made.cuts), self.made.samples) == before and not self._ready:
                raise Fault("media.crashed", "it decodes to less than it did before")
        except Fault as fault:
            spoken = any(result.text for result in self.made.results.values())
            lasting = fault.fate is Fate.FILE or (fault.fate is Fate.ATTEMPT and self._last_chance)
            if not spoken or not lasting or not fault.code.startswith("media."):
                raise
            self.made.broken = fault.code  # what was paid is not thrown away: the rest is a gap

    async def _pass(self) -> None:
        rooms, lease = self._rooms, self._lease
        can = self._engine.capabilities
        if not self._sent:
            rooms.progress.reached(lease.job.id, Stage.PREPARING)
        request = PrepareRequest(
            self._folder, self._encoding, can.max_bytes, self._limits(),
            lease.job.settings.audio_languages, tuple(self._wanted()),
            tuple(self._stretches()), self._next_index,
            by_channel=lease.job.settings.speakers == "channels",
        )  # fmt: skip
        whole = any(stretch.end is None for stretch in request.stretches)
        fd = await self._open()
        try:
            await asyncio.to_thread(_make_folder, self._folder)
            async with rooms.media.prepare(fd, request) as events:
                async for event in events:
                    if isinstance(event, Probed):
                        await self._probed(event.media)
                    elif isinstance(event, Cut):
                        await self._cut(event)
                    elif whole:
                        self.made.samples = event.samples
                        await rooms.store.finish_cuts(
                            lease, samples=event.samples, bad_packets=event.bad_packets
                        )
                        rooms.progress.measured(lease.job.id, event.samples / SAMPLE_RATE_HZ)
            faultpoints.reach("work.prepared")
        finally:
            os.close(fd)

    async def _probed(self, media: MediaInfo) -> None:
        if self._lease.job.settings.speakers == "channels" and not 2 <= media.channels <= _MOST_CHANNELS:
            raise Fault("engine.no_speakers", f"the recording has {_counted(media.channels)}")
        if self.made.media is None:
            self.made.media = media
            await self._rooms.store.save_media(self._lease, media)
        if self.made.samples is None:
            self._rooms.progress.measured(self._lease.job.id, (media.duration_s or 0.0) * media.channels)
        self._changed.set()

    async def _cut(self, cut: Cut) -> None:
        """Store a cut, let it be sent, and wait while too many are."""
        if cut.duration_s < SHORTEST_S:
            cut = replace(cut, silent=True)
        await self._rooms.store.save_cut(self._lease, cut)
        faultpoints.reach("work.cut_saved")
        self.made.cuts[cut.index] = cut
        self._next_index = max(self._next_index, cut.index + 1)
        if cut.silent:
            self.made.results[cut.index] = ChunkResult("")
        else:
            self._ready.add(cut.index)
            self._launch()
        while self._is_ahead():
            self._room.clear()
            await self._room.wait()

    def _is_ahead(self) -> bool:
        """Whether enough encoded cuts wait for their answers."""
        slots = self._engine.capabilities.max_concurrency
        size_bytes = sum(self.made.cuts[index].size_bytes for index in self._ready)
        return len(self._ready) > 2 * slots + 1 or (len(self._ready) > slots and size_bytes > _AHEAD_BYTES)

    async def _open(self) -> int:
        """Open the source; a descriptor that arrives when nobody waits any more is closed by the thread."""
        box: list[int] = []

        def opened() -> None:
            box.append(open_settled(self._lease.job.present)[0])

        root = self._lease.job.source.root
        await self._rooms.files.run(root, opened, undo=lambda: _close_all(box))
        return box[0]

    # -- sending ---------------------------------------------------------------------------------------

    async def _ask(self, cut: Cut) -> None:
        """Have one cut answered, or deal with its refusal."""
        self._tell()
        try:
            self.made.results[cut.index] = await self._asking.answered(cut)
            self.made.answers += 1
            self._ready.discard(cut.index)
        except Fault as fault:
            if fault.fate is Fate.SPLIT:
                await self._split(cut, fault)
            elif fault.fate is Fate.REENCODE:
                await self._reencode(cut, fault)
            elif fault.code == "engine.no_speakers":
                raise  # the whole recording's, not this cut's
            elif fault.fate is Fate.FILE or (self._is_last(fault) and fault.code.startswith("engine.")):
                await self._lose(cut, fault)
            else:
                raise
        await asyncio.to_thread(_remove, self._folder / cut.file)
        self._sent.discard(cut.index)
        self._tell()

    def _is_last(self, fault: Fault) -> bool:
        """Whether nothing will be tried again for this one, while others were answered."""
        spoken = any(result.text for result in self.made.results.values())
        return fault.fate is Fate.ATTEMPT and self._last_chance and spoken

    def _tell(self) -> None:
        """Say how far it has come, and that it waits if it does."""
        made = self.made
        total = self._expected()
        done = len(made.results) + len(made.losses)
        waits = not self._sent and done < total
        stage = Stage.WAITING if waits else Stage.TRANSCRIBING
        self._rooms.progress.reached(self._lease.job.id, stage, done=done, total=total)

    # -- refusals --------------------------------------------------------------------------------------

    async def _split(self, cut: Cut, fault: Fault) -> None:
        """Put smaller cuts in the place of one that was too large, and of all that wait and are as large."""
        limit_s = shorter_s(cut, fault.limit_s)
        if limit_s is None:
            await self._lose(cut, fault)
            return
        await self._recut(cut, limit_s)
        lessons = self._rooms.lessons.longest_s
        lessons[self._engine.name] = min(limit_s, lessons.get(self._engine.name, limit_s))

    async def _recut(self, cut: Cut, limit_s: float) -> None:
        self._max_s = min(limit_s, self._max_s or limit_s)
        waiting = self._ready - self._sent - {cut.index}
        too_long = [one for one in waiting if self.made.cuts[one].duration_s > limit_s + 1.0]
        gone = [cut.index, *too_long]
        for index in too_long:
            self._ready.discard(index)
            if (task := self._tasks.get(index)) is not None:
                task.cancel()
        await self._rooms.store.split_cuts(self._lease, gone, limit_s)
        faultpoints.reach("work.split")
        _log.info("job.split", cuts=len(gone), limit_s=round(limit_s, 1))
        for index in gone:
            del self.made.cuts[index]
            self._ready.discard(index)

    async def _reencode(self, cut: Cut, fault: Fault) -> None:
        """Have one that was not understood encoded once more, otherwise."""
        can = self._engine.capabilities
        if can.encoding != "opus" or cut.file.endswith(".wav"):
            await self._lose(cut, Fault("engine.rejected", fault.detail))
            return
        fits_s = limits_for(FALLBACK, max_s=can.max_s, max_bytes=can.max_bytes, slots=1).max_s
        if cut.duration_s > fits_s:
            await self._recut(cut, fits_s)
            return
        again = replace(cut, file=f"{cut.file.rpartition('.')[0]}.wav", size_bytes=0)
        await self._rooms.store.save_cut(self._lease, again)
        faultpoints.reach("work.reencode")
        _log.info("job.encoded_anew", cut=cut.index, reason=fault.detail)
        self.made.cuts[cut.index] = again
        self._ready.discard(cut.index)

    async def _lose(self, cut: Cut, fault: Fault) -> None:
        """Give one up; the recording goes on without it."""
        await self._rooms.store.lose_chunk(self._lease, cut.index, fault.code)
        faultpoints.reach("work.chunk_lost")
        _log.warning(
            "job.gap", code=fault.code, reason=fault.message, start_s=round(cut.start_s, 1),
            length_s=round(cut.duration_s, 1),
        )  # fmt: skip
        self._faults[cut.index] = fault
        self.made.losses[cut.index] = fault.code
        self._ready.discard(cut.index)


def _counted(channels: int) -> str:
    return "one channel" if channels == 1 else f"{channels} channels"


def _on_disk(folder: Path, cuts: list[Cut]) -> set[int]:
    found = set()
    for cut in cuts:
        with contextlib.suppress(OSError):
            if cut.size_bytes and (folder / cut.file).stat().st_size == cut.size_bytes:
                found.add(cut.index)
    return found


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Fault("output.disk_full", f"state folder: {error.strerror}") from error


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
