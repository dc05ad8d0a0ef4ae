"""One encoded cut and its answer: asked for through the gate, judged, timed, stored the moment it is paid.

Knows nothing of the other cuts, nor what becomes of one that is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from tnfd import faultpoints
from tnfd.errors import Fate, Fault
from tnfd.model import ChunkResult, Cut, Encoding, EngineChoice
from tnfd.pipeline.files import FileThreads
from tnfd.pipeline.gate import Gate
from tnfd.pipeline.hearing import Hearing, Judge, Wishes
from tnfd.pipeline.room import Room
from tnfd.pipeline.voicebook import VoiceBook
from tnfd.ports.engine import Engine, EngineChunk, Engines, Hints
from tnfd.ports.media import Media
from tnfd.ports.progress import Progress
from tnfd.ports.queue import Lease
from tnfd.ports.store import WorkStore
from tnfd.rules.formats import needs_times
from tnfd.rules.hearing.phrases import Sound
from tnfd.rules.quality import Asked
from tnfd.rules.voices import has_speakers
from tnfd.through import beside

_MAX_ADJUSTMENTS = 8  # an engine learns each thing once; this only bounds a bug
FALLBACK: Encoding = "wav"  # what a server gets that does not understand Opus


@dataclass(slots=True)
class Lessons:
    """What servers taught this process, by engine: how long a request may be, and what they understand."""

    longest_s: dict[str, float] = field(default_factory=dict)
    encoding: dict[str, Encoding] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the work is done with."""

    store: WorkStore
    gate: Gate
    media: Media
    engines: Engines
    files: FileThreads
    progress: Progress
    workers: Room  # files whose requests are being sent at once
    lessons: Lessons
    hearing: Hearing | None = None


class Asking:
    """Asks an engine for one recording's cuts. ``folder`` is where they wait, encoded.

    ``sent`` is told the index of a cut whose request leaves; ``hurried``: whether nothing is asked again.
    """

    def __init__(
        self, rooms: Rooms, lease: Lease, engine: Engine, choice: EngineChoice, folder: Path, *,
        sent: Callable[[int], None], hurried: Callable[[], bool],
    ) -> None:  # fmt: skip
        settings = lease.job.settings
        self._rooms = rooms
        self._lease = lease
        self._engine = engine
        self._choice = choice
        self._folder = folder
        self._sent = sent
        self._hurried = hurried
        self.want_times = needs_times(settings.formats, settings.speakers)
        self._voices = VoiceBook(settings, folder, rooms.hearing.ear if rooms.hearing else None)

    async def answered(self, cut: Cut) -> ChunkResult:
        """Send one cut and return what came, judged and timed; it is stored by then.

        Raises:
            Fault, MustWait, LeaseLost: it was not answered.
        """
        settings = self._lease.job.settings
        encoding = self._engine.capabilities.encoding if not cut.file.endswith(".wav") else FALLBACK
        chunk = EngineChunk(self._folder / cut.file, encoding, cut.duration_s, cut.size_bytes)
        hints = Hints(
            settings.languages, settings.prompt, settings.keywords, want_times=self.want_times,
            speakers=settings.speakers == "engine",
        )  # fmt: skip
        sound: list[Sound | None] = []
        async with self._voices.turn() as voices:
            asked = self._adjusted(cut, chunk, replace(hints, voices=voices))
            result = await beside(asked, self._listen(chunk, sound))
            await self._voices.learn(chunk, result)
        if settings.speakers == "engine" and not has_speakers(result.segments):
            raise Fault("engine.no_speakers", "the server named none")
        result = await self._heard(cut, chunk, hints, result, next(iter(sound), None))
        if encoding == FALLBACK:
            self._rooms.lessons.encoding[self._engine.name] = FALLBACK
        return result

    async def _adjusted(self, cut: Cut, chunk: EngineChunk, hints: Hints) -> ChunkResult:
        for _ in range(_MAX_ADJUSTMENTS):
            try:
                return await self._request(
                    cut, chunk, hints, lambda answer: self._voices.named(answer, cut.start_s)
                )
            except Fault as fault:
                if fault.fate is not Fate.ADJUST:
                    raise
        raise Fault("engine.rejected", "the server keeps refusing options")

    async def _listen(self, chunk: EngineChunk, into: list[Sound | None]) -> None:
        """Hear where somebody speaks while the engine works; costs nothing then."""
        if self._rooms.hearing is not None and not self._engine.capabilities.draft:
            into.append(await self._rooms.hearing.listen(chunk))

    async def _heard(
        self, cut: Cut, chunk: EngineChunk, hints: Hints, result: ChunkResult, sound: Sound | None
    ) -> ChunkResult:
        """Judge an answered cut, and give it times; what that adds is stored."""
        if self._rooms.hearing is None:
            return result
        wishes = Wishes(
            Asked(hints.prompt, hints.keywords), self.want_times, hints.languages,
            trusted=self._engine.capabilities.draft,
        )  # fmt: skip

        async def again(shifted: EngineChunk, judge: Judge) -> ChunkResult:
            def judged(answer: ChunkResult) -> ChunkResult:
                return judge(self._voices.named(answer, cut.start_s))

            voices = replace(hints, voices=self._voices.known)
            return await self._request(cut, shifted, voices, judged)

        heard = await self._rooms.hearing.heard(
            chunk, result, sound, wishes, None if self._hurried() else again
        )
        if heard != result:
            await self._rooms.store.save_heard(self._lease, cut.index, heard)
        return heard

    async def _request(self, cut: Cut, chunk: EngineChunk, hints: Hints, judge: Judge) -> ChunkResult:
        can, job = self._engine.capabilities, self._lease.job
        async with self._rooms.gate.request(
            self._engine, job=job.id, inbox=job.inbox, audio_s=chunk.duration_s
        ) as ticket:
            self._sent(cut.index)
            try:
                result = await self._engine.transcribe(chunk, hints)
            except Fault as fault:
                if fault.code == "engine.no_model" and not self._rooms.engines.is_configured(self._choice):
                    # Says nothing about the engine as it is configured now: that must not be paused for it.
                    raise Fault("engine.model_gone", self._choice.model) from fault
                raise
            faultpoints.reach("work.answered")
            audio_s = result.audio_s if result.audio_s is not None else chunk.duration_s
            cost_usd = result.cost_usd if result.cost_usd is not None else audio_s / 60 * can.usd_per_minute
            ticket.cost_usd = cost_usd
            result = judge(result)
            await self._rooms.store.save_chunk(
                self._lease,
                cut.index,
                self._choice,
                result,
                uploaded_bytes=chunk.size_bytes if can.uploads else 0,
                cost_usd=cost_usd,
                audio_s=audio_s,
            )
            faultpoints.reach("work.chunk_saved")
        return result
