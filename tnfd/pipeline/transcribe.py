"""From a source to its transcript: prepare the cuts, send those without an answer, stitch.

Everything that was achieved is in the store before the next step begins, so that a restart repeats nothing
that was paid.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

from tnfd import faultpoints
from tnfd.errors import LOST, Fate, Fault
from tnfd.model import (
    SAMPLE_RATE_HZ,
    ChunkResult,
    Cut,
    EngineChoice,
    MediaInfo,
    Transcript,
    Waiting,
    WaitReason,
)
from tnfd.pipeline.files import FileThreads, check_settled, open_settled
from tnfd.pipeline.gate import Gate, MustWait
from tnfd.pipeline.room import Room
from tnfd.ports.engine import Engine, EngineChunk, Engines, Hints
from tnfd.ports.media import Media, PrepareRequest, Probed
from tnfd.ports.progress import Progress, Stage, Unheard
from tnfd.ports.queue import Lease
from tnfd.ports.store import WorkStore
from tnfd.rules.formats import TIMED
from tnfd.rules.stitch import stitch
from tnfd.through import beside

_SHORTEST_S = 0.1  # servers refuse less (facts: 400 "too short")
_MAX_ADJUSTMENTS = 8  # an engine learns each thing once; this only bounds a bug


_Prepared = tuple[list[Cut], MediaInfo | None, int]  # the plan, what was probed, samples heard


class Transcriber:
    """Makes transcripts. ``room`` bounds the files whose requests are being sent at once."""

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
        progress: Progress | None = None,
    ) -> None:
        self._store = store
        self._gate = gate
        self._media = media
        self._engines = engines
        self._files = files
        self._scratch = scratch
        self._room = room
        self._progress = progress or Unheard()
        self.sending = 0  # files at this stage

    async def transcribe(self, lease: Lease) -> Transcript:
        """Return the whole transcript, stored.

        Raises:
            Fault, MustWait, LeaseLost: see the rooms that this passes through.
        """
        try:
            return await self._transcribe(lease)
        except Fault as fault:
            if fault.fate in LOST or fault.fate is Fate.SOURCE:  # nobody will come for the cuts
                await self._tidy(lease)
            raise

    async def _transcribe(self, lease: Lease) -> Transcript:
        engine, choice = await self._engine(lease)
        if (
            not lease.transcription.cuts_complete
        ):  # encoded audio that cannot be sent would only fill the disk
            await self._gate.expect(engine, job=lease.job.id, inbox=lease.job.inbox)
        cuts, media, samples = await beside(self._prepared(lease, engine), _warm(engine))
        self._progress.measured(lease.job.id, samples / SAMPLE_RATE_HZ)
        self._waits(lease, len(lease.transcription.results), len(cuts))
        async with self._room:
            self.sending += 1
            try:
                if not lease.transcription.results:  # nothing is paid for a file that is another by now
                    await self._files.run(lease.job.source.root, check_settled, lease.job.present)
                results = await self._send(lease, engine, choice, cuts)
            finally:
                self.sending -= 1
        flags = _flags(engine, media, samples)
        transcript = stitch(cuts, results, duration_s=samples / SAMPLE_RATE_HZ, flags=flags)
        await self._store.save_transcript(lease, transcript)
        faultpoints.reach("work.transcript_saved")
        await self._tidy(lease)
        return transcript

    async def _engine(self, lease: Lease) -> tuple[Engine, EngineChoice]:
        """The engine whose turn it is, or of the others on the list the first that is configured still."""
        paid = lease.transcription.engine
        wanted = lease.job.settings.engines if paid is None else (paid,)
        for choice in sorted(wanted, key=lambda choice: choice.name != lease.job.turn):
            engine = await self._engines.get(choice)
            if engine is not None:
                return engine, choice
        detail = f"the engine {wanted[0].name!r} is no longer configured"
        raise MustWait(Waiting(WaitReason.CONFIG, None, detail))

    def _waits(self, lease: Lease, done: int, total: int) -> None:
        self._progress.reached(lease.job.id, Stage.WAITING, done=done, total=total)

    async def _tidy(self, lease: Lease) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder(lease), ignore_errors=True)

    def _folder(self, lease: Lease) -> Path:
        return self._scratch / f"t{lease.transcription.id}"

    # -- prepare -----------------------------------------------------------------------------------

    async def _prepared(self, lease: Lease, engine: Engine) -> _Prepared:
        known, folder = lease.transcription, self._folder(lease)
        encoded = known.cuts_complete and known.encoding == engine.capabilities.encoding
        if encoded and known.samples is not None:
            owed = [cut for cut in known.cuts if cut.index not in known.results]
            if await asyncio.to_thread(lambda: all((folder / cut.file).is_file() for cut in owed)):
                return list(known.cuts), known.media, known.samples
        return await self._prepare(lease, engine, folder)

    async def _prepare(self, lease: Lease, engine: Engine, folder: Path) -> _Prepared:
        can = engine.capabilities
        self._progress.reached(lease.job.id, Stage.PREPARING)
        fd, _ = await self._open(lease)
        try:
            await self._store.restart_cuts(lease, can.encoding)
            await asyncio.to_thread(_make_folder, folder)
            cuts: list[Cut] = []
            media: MediaInfo | None = None
            samples = 0
            request = PrepareRequest(
                folder, can.encoding, can.max_bytes, can.max_s, lease.job.settings.audio_languages
            )
            async with self._media.prepare(fd, request) as events:
                async for event in events:
                    if isinstance(event, Probed):
                        media = event.media
                        self._progress.measured(lease.job.id, media.duration_s or 0.0)
                        await self._store.save_media(lease, media)
                    elif isinstance(event, Cut):
                        cuts.append(event)
                        await self._store.save_cut(lease, event)
                        faultpoints.reach("work.cut_saved")
                    else:
                        samples = event.samples
                        await self._store.finish_cuts(lease, samples=samples, bad_packets=event.bad_packets)
            faultpoints.reach("work.prepared")
            return cuts, media, samples
        finally:
            os.close(fd)

    async def _open(self, lease: Lease) -> tuple[int, os.stat_result]:
        """Open the source; a descriptor that arrives when nobody waits any more is closed by the thread."""
        box: list[int] = []

        def opened() -> os.stat_result:
            fd, st = open_settled(lease.job.present)
            box.append(fd)
            return st

        st = await self._files.run(lease.job.source.root, opened, undo=lambda: _close_all(box))
        return box[0], st

    # -- send --------------------------------------------------------------------------------------

    async def _send(
        self, lease: Lease, engine: Engine, choice: EngineChoice, cuts: list[Cut]
    ) -> dict[int, ChunkResult]:
        results = dict(lease.transcription.results)
        for cut in cuts:
            if cut.index in results:
                continue
            if cut.duration_s < _SHORTEST_S:
                results[cut.index] = ChunkResult("")
                continue
            self._waits(lease, len(results), len(cuts))
            results[cut.index] = await self._ask(lease, engine, choice, cut)
        return results

    async def _ask(self, lease: Lease, engine: Engine, choice: EngineChoice, cut: Cut) -> ChunkResult:
        path = self._folder(lease) / cut.file
        chunk = EngineChunk(path, engine.capabilities.encoding, cut.duration_s, cut.size_bytes)
        settings = lease.job.settings
        hints = Hints(
            settings.languages,
            settings.prompt,
            settings.keywords,
            want_times=any(format in TIMED for format in settings.formats),
        )
        for _ in range(_MAX_ADJUSTMENTS):
            try:
                return await self._request(lease, engine, choice, cut, chunk, hints)
            except Fault as fault:
                if fault.fate is not Fate.ADJUST:
                    raise
        raise Fault("engine.rejected", "the server keeps refusing options")

    async def _request(
        self, lease: Lease, engine: Engine, choice: EngineChoice, cut: Cut, chunk: EngineChunk, hints: Hints
    ) -> ChunkResult:
        can = engine.capabilities
        job = lease.job
        async with self._gate.request(engine, job=job.id, inbox=job.inbox, audio_s=cut.duration_s) as ticket:
            try:
                result = await engine.transcribe(chunk, hints)
            except Fault as fault:
                if fault.code == "engine.no_model" and not self._engines.is_configured(choice):
                    # Says nothing about the engine as it is configured now: that must not be paused for it.
                    raise Fault("engine.model_gone", choice.model) from fault
                raise
            faultpoints.reach("work.answered")
            audio_s = result.audio_s if result.audio_s is not None else cut.duration_s
            cost_usd = result.cost_usd if result.cost_usd is not None else audio_s / 60 * can.usd_per_minute
            ticket.cost_usd = cost_usd
            await self._store.save_chunk(
                lease,
                cut.index,
                choice,
                result,
                uploaded_bytes=chunk.size_bytes if can.uploads else 0,
                cost_usd=cost_usd,
                audio_s=audio_s,
            )
            faultpoints.reach("work.chunk_saved")
        return result


async def _warm(engine: Engine) -> None:
    """An engine that cannot work says so again when it is asked, where the ledger hears it and pauses it."""
    with contextlib.suppress(Fault):
        await engine.warm()


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Fault("output.disk_full", f"state folder: {error.strerror}") from error


def _flags(engine: Engine, media: MediaInfo | None, samples: int) -> list[str]:
    heard_s = samples / SAMPLE_RATE_HZ
    flags = []
    if engine.capabilities.draft:
        flags.append("draft")
    if heard_s < _SHORTEST_S:
        flags.append("no_speech")
    promised_s = media.duration_s if media and media.duration_s else 0.0
    if promised_s - heard_s > max(2.0, 0.02 * promised_s):
        flags.append("truncated_media")
    return flags
