"""From a source to its transcript: have its cuts made and answered, put the answers together, store the text.

Chooses the engine, keeps what servers taught for all files, and says what the whole is worth; the work on one
recording is ``pipeline.making``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tnfd import faultpoints
from tnfd.errors import LOST, Fate, Fault
from tnfd.model import (
    SAMPLE_RATE_HZ,
    Cut,
    EngineChoice,
    Gap,
    JobSettings,
    Transcript,
    Waiting,
    WaitReason,
)  # fmt: skip
from tnfd.pipeline.asking import Lessons, Rooms
from tnfd.pipeline.clockwork import guessed
from tnfd.pipeline.files import FileThreads
from tnfd.pipeline.gate import Gate, MustWait
from tnfd.pipeline.hearing import Hearing
from tnfd.pipeline.making import SHORTEST_S, Made, Making
from tnfd.pipeline.room import Room
from tnfd.ports.engine import Engine, Engines
from tnfd.ports.media import Media
from tnfd.ports.progress import Progress, Unheard
from tnfd.ports.queue import Lease
from tnfd.ports.store import WorkStore
from tnfd.rules.cuts import uncovered
from tnfd.rules.formats import needs_times
from tnfd.rules.stitch import stitch
from tnfd.rules.tongue import languages_of
from tnfd.rules.voices import by_channel, has_speakers
from tnfd.through import beside


class Transcriber:
    """Makes transcripts. ``room`` bounds the files whose requests are being sent at once.

    A job that has failed ``max_attempts`` - 1 times has its last chance: what then still fails becomes a gap,
    if anything else of the recording was answered.
    """

    def __init__(
        self,
        store: WorkStore,
        gate: Gate,
        media: Media,
        engines: Engines,
        files: FileThreads,
        scratch: Path,
        *,
        room: Room,
        max_attempts: int = 1,
        hearing: Hearing | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._store = store
        self._gate = gate
        self._scratch = scratch
        self.max_attempts = max_attempts
        self._rooms = Rooms(
            store, gate, media, engines, files, progress or Unheard(), room, Lessons(), hearing
        )
        self._making: dict[str, Making] = {}
        self._answers: dict[str, int] = {}
        self._drain: Callable[[Making], None] | None = None

    @property
    def sending(self) -> int:
        """How many files are being sent."""
        return sum(making.sending for making in self._making.values())

    def drain(self, *, strict: bool = False) -> None:
        """Let recordings stop after what is in flight; not ``strict``: those that are far from their end."""
        self._drain = lambda making: making.drain(strict=strict)
        for making in self._making.values():
            self._drain(making)

    def take_answers(self, job_id: str) -> int:
        """How many requests of a job were answered in its last lease, which an error ended; asked once."""
        return self._answers.pop(job_id, 0)

    async def transcribe(self, lease: Lease) -> Transcript:
        """Return the whole transcript, stored.

        Raises:
            Fault, MustWait, LeaseLost: see the rooms that this passes through.
            Draining: the process comes to a stop.
        """
        try:
            return await self._transcribe(lease)
        except Fault as fault:
            if fault.fate in LOST or fault.fate is Fate.SOURCE:  # nobody will come for the cuts
                await self._tidy(lease)
            raise

    async def _transcribe(self, lease: Lease) -> Transcript:
        engine, choice = await self._engine(lease)
        if lease.job.settings.speakers == "engine" and not engine.capabilities.speakers:
            raise Fault("engine.no_speakers", f"{choice.name}, model {choice.model}")
        if not lease.transcription.cuts_complete:
            # encoded audio that cannot be sent would only fill the disk
            await self._gate.expect(engine, job=lease.job.id, inbox=lease.job.inbox)
        making = self._making[lease.job.id] = Making(
            self._rooms, lease, engine, choice, self._folder(lease),
            last_chance=lease.job.failures + 1 >= self.max_attempts,
        )  # fmt: skip
        if self._drain is not None:
            self._drain(making)
        try:
            made = await beside(making.run(), _warm(engine))
        except BaseException:
            self._answers[lease.job.id] = making.made.answers
            raise
        finally:
            del self._making[lease.job.id]
        settings = lease.job.settings
        if needs_times(settings.formats, settings.speakers):
            # What was answered just before a crash got no times, and its sound is gone.
            made.results = {n: guessed(one, made.cuts[n].duration_s) for n, one in made.results.items()}
        transcript = _voiced(_stitched(engine, made), made, settings)
        if not any(result.text for result in made.results.values()) and made.losses:
            raise making.fault or Fault(next(iter(made.losses.values())))
        await self._store.save_transcript(lease, transcript)
        faultpoints.reach("work.transcript_saved")
        await self._tidy(lease)
        return transcript

    async def _engine(self, lease: Lease) -> tuple[Engine, EngineChoice]:
        """The engine whose turn it is, or of the others on the list the first that is configured still."""
        paid = lease.transcription.engine
        wanted = lease.job.settings.engines if paid is None else (paid,)
        for choice in sorted(wanted, key=lambda choice: choice.name != lease.job.turn):
            engine = await self._rooms.engines.get(choice)
            if engine is not None:
                return engine, choice
        detail = f"the engine {wanted[0].name!r} is no longer configured"
        raise MustWait(Waiting(WaitReason.CONFIG, None, detail))

    async def _tidy(self, lease: Lease) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder(lease), ignore_errors=True)

    def _folder(self, lease: Lease) -> Path:
        return self._scratch / f"t{lease.transcription.id}"


async def _warm(engine: Engine) -> None:
    """An engine that cannot work says so again when it is asked, where the ledger hears it and pauses it."""
    with contextlib.suppress(Fault):
        await engine.warm()


def _stitched(engine: Engine, made: Made) -> Transcript:
    cuts = list(made.cuts.values())
    channels = made.media.channels if made.media else 1
    promised_s = (made.media.duration_s or 0.0) * channels if made.media else 0.0
    gaps: list[Gap] = []
    if made.samples is not None:
        heard_s = made.samples / SAMPLE_RATE_HZ
    else:  # the rest could not be decoded
        reached_s = max((cut.end_sample for cut in cuts), default=0) / SAMPLE_RATE_HZ
        heard_s = max(reached_s + 1.0, promised_s)
        gaps = _undecoded(cuts, heard_s, made.broken)
    flags = _flags(engine, cuts, heard_s, promised_s)
    return stitch(cuts, made.results, duration_s=heard_s, errors=made.losses, gaps=gaps, flags=flags)


def _voiced(transcript: Transcript, made: Made, settings: JobSettings) -> Transcript:
    """Name who speaks, and the language where the engine did not."""
    if settings.speakers == "channels" and made.media is not None and made.media.channels > 1:
        transcript = by_channel(transcript, made.media.channels, settings.speaker_names)
    if settings.speakers == "engine" and not has_speakers(transcript.segments):
        raise Fault("engine.no_speakers", "the server named none")
    if transcript.text and not transcript.languages:
        texts = [result.text for _, result in sorted(made.results.items())]
        transcript = replace(transcript, languages=languages_of(texts, settings.languages))
    return transcript


def _undecoded(cuts: list[Cut], length_s: float, code: str) -> list[Gap]:
    stretches = uncovered(cuts, math.ceil(length_s * SAMPLE_RATE_HZ))
    return [
        Gap(stretch.start / SAMPLE_RATE_HZ, min((stretch.end or 0) / SAMPLE_RATE_HZ, length_s), code)
        for stretch in stretches
    ]


def _flags(engine: Engine, cuts: list[Cut], heard_s: float, promised_s: float) -> list[str]:
    flags = []
    if engine.capabilities.draft:
        flags.append("draft")
    if heard_s < SHORTEST_S or all(cut.silent for cut in cuts):
        flags.append("no_speech")
    if promised_s - heard_s > max(2.0, 0.02 * promised_s):
        flags.append("truncated_media")
    return flags
