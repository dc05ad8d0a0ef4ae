"""What becomes of an answer before it counts: examined, asked for once more where doubtful, given times.

Owns the order of these steps. What is doubtful, which answer is better and when words are said is decided in
``rules``. Nothing here ever fails an answer that was paid: without its ear tnfd only knows less.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from tnfd.errors import Fault
from tnfd.model import ChunkResult, Doubt
from tnfd.pipeline.clockwork import timed
from tnfd.pipeline.gate import MustWait
from tnfd.ports.ear import Ear
from tnfd.ports.engine import EngineChunk
from tnfd.rules import quality
from tnfd.rules.hearing.phrases import Sound, hear
from tnfd.rules.quality import Asked

_log = structlog.get_logger("tnfd.job")

Judge = Callable[[ChunkResult], ChunkResult]
# Sends another cut of the same audio; what the judge makes of the answer is stored with its price.
AskAgain = Callable[[EngineChunk, Judge], Awaitable[ChunkResult]]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What one answer is examined against, and whether it should have times."""

    asked: Asked
    want_times: bool
    languages: tuple[str, ...] = ()
    trusted: bool = False  # a draft: nobody asks twice for it


class Hearing:
    """Listens to answers. One for all files; the ear has one child."""

    def __init__(self, ear: Ear) -> None:
        self._ear = ear

    @property
    def ear(self) -> Ear:
        """Who listens."""
        return self._ear

    async def heard(
        self,
        chunk: EngineChunk,
        result: ChunkResult,
        sound: Sound | None,
        wishes: Wishes,
        again: AskAgain | None,
    ) -> ChunkResult:
        """Return the answer as it counts: with its doubts, and with times where they are wanted.

        ``sound``: what ``listen`` heard. ``again`` None: nothing more may be sent. Raises nothing but what
        ends the whole job.
        """
        if wishes.trusted and (result.timestamps != "none" or not wishes.want_times):
            return result
        if not wishes.trusted:
            result = await self._examined(chunk, result, sound, wishes.asked, again)
        if wishes.want_times:
            known = sound or Sound(chunk.duration_s, ())
            result = await timed(self._ear, chunk, result, known, expected=wishes.languages)
        return result

    async def listen(self, chunk: EngineChunk) -> Sound | None:
        """Find out where somebody speaks in a cut; None: it cannot be heard."""
        try:
            return hear(await self._ear.levels(chunk), chunk.duration_s)
        except Fault as fault:
            _log.warning("job.unheard", code=fault.code, reason=fault.message)
            return None

    async def _examined(
        self,
        chunk: EngineChunk,
        result: ChunkResult,
        sound: Sound | None,
        asked: Asked,
        again: AskAgain | None,
    ) -> ChunkResult:
        doubts = await _examine(result, sound, asked, chunk.duration_s)
        first = replace(result, doubts=doubts)
        if not doubts or again is None:
            return first
        flags = sorted({doubt.flag for doubt in doubts})
        _log.info("job.doubtful", flags=flags, length_s=round(chunk.duration_s, 1))
        shift = quality.plan_shift(sound, chunk.duration_s)

        def judge(answer: ChunkResult) -> ChunkResult:
            second = quality.shifted_back(answer, shift, chunk.duration_s)
            second = replace(second, doubts=quality.examine(second, sound, asked, chunk.duration_s))
            return quality.better(first, second, sound, asked)

        path = chunk.path.with_name(f"{chunk.path.stem}-shifted{chunk.path.suffix}")
        try:
            other = await self._ear.copy(
                chunk, path, start_s=shift.start_s, end_s=shift.end_s, pad_s=shift.pad_s
            )
            return await again(other, judge)
        except (Fault, MustWait) as reason:
            # The first answer is paid and stored; its flags stay.
            _log.info("job.not_asked_again", reason=str(reason))
            return first
        finally:
            await asyncio.to_thread(_remove, path)


async def _examine(
    result: ChunkResult, sound: Sound | None, asked: Asked, duration_s: float
) -> tuple[Doubt, ...]:
    if len(result.text) < 20_000:
        return quality.examine(result, sound, asked, duration_s)
    return await asyncio.to_thread(quality.examine, result, sound, asked, duration_s)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
