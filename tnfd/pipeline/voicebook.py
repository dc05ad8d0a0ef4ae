"""The voices of one recording: those that the settings name, and those met in the first answer.

Owns who is known by the time that a cut is sent, and the samples of voices beside the cuts. An engine that
tells speakers apart gets the first cut alone: what it hears there names the speakers of all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from tnfd.errors import Fault
from tnfd.model import ChunkResult, JobSettings, Waiting, WaitReason
from tnfd.pipeline.gate import MustWait
from tnfd.ports.ear import Ear
from tnfd.ports.engine import EngineChunk, Voice
from tnfd.rules.voices import MOST_VOICES, named, samples_of

_log = structlog.get_logger("tnfd.job")

_LARGEST_BYTES = 4 * 1024 * 1024  # of a sample: ten seconds of anything
_TYPES = {
    ".wav": "audio/wav", ".ogg": "audio/ogg", ".mp3": "audio/mpeg", ".m4a": "audio/mp4",
    ".flac": "audio/flac",
    ".webm": "audio/webm",
}  # fmt: skip
_BOOK = "voices.json"


class VoiceBook:
    """Who is known. ``folder`` keeps samples for a restart; without an ear nobody new is learned."""

    def __init__(self, settings: JobSettings, folder: Path, ear: Ear | None) -> None:
        self._settings = settings
        self._folder = folder
        self._ear = ear
        self._wanted = settings.speakers == "engine"
        self._known: tuple[Voice, ...] | None = None
        self._first = True  # nothing was answered yet
        self._first_s: float | None = None  # where the cut lies whose letters all others are measured by
        self._turn = asyncio.Lock()

    @property
    def known(self) -> tuple[Voice, ...]:
        """Those with a sample."""
        return self._known or ()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[tuple[Voice, ...]]:
        """Give the voices that are known; the first cut of all is sent alone.

        Raises:
            MustWait: a sample that the settings name cannot be read.
        """
        if not self._wanted:
            yield ()
            return
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._turn)
            if self._known is None:
                self._known, self._first = await asyncio.to_thread(self._load)
            if not self._first:
                await stack.aclose()
            yield self.known

    def named(self, result: ChunkResult, start_s: float) -> ChunkResult:
        """Return an answer with names for its speakers (``rules.voices``)."""
        if not self._wanted:
            return result
        first = self._first or start_s == self._first_s
        if self._first:
            self._first_s = start_s
        return named(result, {voice.name for voice in self.known}, start_s=start_s, first=first)

    async def learn(self, chunk: EngineChunk, result: ChunkResult) -> None:
        """Take samples of the voices in the first answer that has some."""
        if not self._wanted or not self._first or not result.segments:
            return
        self._first = False
        names = {voice.name for voice in self.known}
        found = list(self.known)
        for sample in samples_of(result, names) if self._ear is not None else []:
            path = self._folder / f"voice-{len(found)}.wav"
            try:
                await self._ear.copy(chunk, path, start_s=sample.start_s, end_s=sample.end_s, encoding="wav")  # type: ignore[union-attr]
                found.append(await asyncio.to_thread(_read, sample.speaker, path))
            except (Fault, OSError) as error:
                _log.info("job.voice_not_learned", reason=str(error))
        self._known = tuple(found[:MOST_VOICES])
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._save)

    def _load(self) -> tuple[tuple[Voice, ...], bool]:
        """Read what the settings name, and what an earlier run learned; True: nothing was learned yet."""
        found = []
        for name, sample in zip(self._settings.speaker_names, self._settings.speaker_samples, strict=False):
            try:
                found.append(_read(name, Path(sample)))
            except OSError as error:
                detail = f"the voice of {name!r}, {sample}: {error.strerror}"
                raise MustWait(Waiting(WaitReason.CONFIG, None, detail)) from error
        try:
            learned = json.loads((self._folder / _BOOK).read_text("utf-8"))
            found += [_read(name, self._folder / os.path.basename(file)) for name, file in learned]
        except (OSError, ValueError):
            return tuple(found[:MOST_VOICES]), True
        return tuple(found[:MOST_VOICES]), False

    def _save(self) -> None:
        given = min(len(self._settings.speaker_names), len(self._settings.speaker_samples))
        rows = [
            (voice.name, f"voice-{number}{_suffix(voice.media_type)}")
            for number, voice in enumerate(self.known)
            if number >= given
        ]
        (self._folder / _BOOK).write_text(json.dumps(rows), "utf-8")


def _read(name: str, path: Path) -> Voice:
    with open(path, "rb") as file:
        data = file.read(_LARGEST_BYTES)
    return Voice(name, data, _TYPES.get(path.suffix.lower(), "audio/wav"))


def _suffix(media_type: str) -> str:
    return next(suffix for suffix, known in _TYPES.items() if known == media_type)
