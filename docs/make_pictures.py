"""Draws docs/pictures/*.svg: ``make pictures``.

The real commands run on a made-up state: a store filled through its own ports, and a beacon that answers as a
daemon would. Nothing of the machine that draws them is seen. Ages are the same each time; moments are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tnfd import beacon
from tnfd.clock import SystemClock
from tnfd.errors import Fault
from tnfd.model import (
    ChunkResult,
    Cut,
    EngineChoice,
    FileRef,
    Gap,
    JobSettings,
    MediaInfo,
    StatKey,
    Transcript,
)
from tnfd.ports.claims import Found, Origin
from tnfd.ports.ledger import Ask, Granted
from tnfd.ports.queue import Done, Fail, Lease, Partial
from tnfd.store.ledger import Budget
from tnfd.store.presence import lock_daemon
from tnfd.store.sqlite import SqliteStore
from tnfd.testing import FakeClock

TARGET = Path(__file__).with_name("pictures")
_HOME = "/home/ada"
_PID = 4711
_OPENAI = EngineChoice("openai", "openai", "gpt-transcribe")
_LAN = EngineChoice("lan", "openai", "whisper-large-v3")
_INBOXES = {"recordings": f"{_HOME}/Dropbox/Recordings", "board": "/mnt/share/Board meetings"}
_CONFIG = f"""
[daemon]
state_dir = "STATE"
[[inbox]]
path = "{_INBOXES["recordings"]}"
[[inbox]]
path = "{_INBOXES["board"]}"
name = "board"
[engines.openai]
type = "openai"
[engines.lan]
type = "openai"
model = "whisper-large-v3"
base_url = "http://192.168.1.9:8000/v1"
"""
_FONT = re.compile(r"\s*@font-face \{.*?\}\n", re.DOTALL)  # no picture fetches fonts from elsewhere


class _Scene:
    """Fills the store, from the past to ``end``, the moment of the picture."""

    def __init__(self, store: SqliteStore, clock: FakeClock, end: datetime) -> None:
        self._store = store
        self._clock = clock
        self._end = end

    async def at(self, ago_s: float) -> None:
        """Let it be so many seconds before the picture."""
        await self._clock.advance((self._end - timedelta(seconds=ago_s) - self._clock.now()).total_seconds())

    async def claim(self, inbox: str, name: str, content: str = "", engine: EngineChoice = _OPENAI) -> str:
        """Let a file be taken."""
        root = os.fsencode(_INBOXES[inbox])
        ref = FileRef(root, name.encode(), StatKey(1, len(name), 48_213_321, 0, 0))
        sha256 = hashlib.sha256((content or name).encode()).hexdigest()
        found = Found(ref, sha256, self._clock.now(), self._clock.now())
        origin = Origin(f"inbox:{_INBOXES[inbox]}", inbox, JobSettings((engine,), formats=("txt", "srt")))
        (claim,) = await self._store.claim(origin, [found])
        return claim.job

    async def begin(self, job_id: str, length_s: float, *, cuts: int = 1, answered: int = 1) -> Lease:
        """Let it be worked on; costs what it costs at OpenAI."""
        lease = await self._store.begin(job_id)
        if not isinstance(lease, Lease):
            raise TypeError(lease.reason)
        if lease.transcription.transcript is not None:
            return lease
        await self._store.save_media(lease, MediaInfo("mp3", "mp3", length_s, 1))
        await self._store.restart_cuts(lease, "opus")
        engine = lease.job.settings.engines[0]
        share_s = length_s / cuts
        usd = share_s / 60 * 0.0045 if engine == _OPENAI else 0.0
        for number in range(cuts):
            start, end = (int(edge * share_s * 16_000) for edge in (number, number + 1))
            await self._store.save_cut(lease, Cut(number, start, end, f"{number}.ogg", 1))
        for number in range(answered):
            ask = Ask(engine.name, job_id, lease.job.inbox, share_s, usd, 5)
            granted = await self._store.reserve(ask)
            if isinstance(granted, Granted):
                await self._store.close(granted.reservation, cost_usd=usd, fault=None)
            await self._store.save_chunk(
                lease, number, engine, ChunkResult("words"), uploaded_bytes=1, cost_usd=usd, audio_s=share_s
            )
        return lease

    async def finish(self, job_id: str, length_s: float, *flags: str) -> None:
        """Let it be done."""
        lease = await self.begin(job_id, length_s)
        await self._store.save_transcript(lease, Transcript("words", (), length_s))
        await self._store.finish(lease, Done(flags))


async def _play(store: SqliteStore, clock: FakeClock, end: datetime) -> None:
    scene = _Scene(store, clock, end)
    await scene.at(93_000)
    await scene.finish(await scene.claim("recordings", "2026/Interview with Grace.m4a"), 2_712)
    await scene.at(7_900)
    lease = await scene.begin(await scene.claim("recordings", "2026/old tape, side B.wav"), 1_800)
    gap = Gap(610.0, 642.0, "media.corrupt")
    await store.save_transcript(lease, Transcript("words", (), 1_800, gaps=(gap,)))
    await store.finish(lease, Partial((gap,), ("truncated_media",)))
    await scene.at(4_000)
    board = "2026-11 Meeting of the board, budget of the coming year, part two.mp3"
    await scene.finish(await scene.claim("board", board), 5_460)
    await scene.at(2_400)
    lease = await scene.begin(await scene.claim("recordings", "holiday video.mp4"), 0, answered=0)
    await store.finish(lease, Fail("media.no_audio", "The file holds no audio stream.", "", retryable=False))
    await scene.at(1_500)
    await scene.finish(await scene.claim("recordings", "talk.mp3"), 3_601)
    await scene.finish(await scene.claim("recordings", "talk (copy).mp3", "talk.mp3"), 3_601)
    await scene.at(100)
    ask = await store.reserve(Ask("lan", "", "board", 60.0, 0.0, 5))
    if isinstance(ask, Granted):
        await store.close(ask.reservation, cost_usd=0, fault=Fault("engine.bad_key"))
    await scene.claim("board", "2026-11-23 minutes.ogg", engine=_LAN)
    await scene.at(75)
    await scene.begin(await scene.claim("recordings", "lecture 12.m4a"), 5_400, cuts=9, answered=4)
    await scene.at(12)
    await scene.begin(await scene.claim("recordings", "会議の録音.mp3"), 1_260, cuts=3, answered=1)
    await store.reserve(Ask("openai", "", "recordings", 600.0, 0.045, 5))
    await store.reserve(Ask("openai", "", "recordings", 420.0, 0.0315, 5))
    await scene.at(3)
    await scene.claim("recordings", "memo.opus")
    await scene.at(0)


async def _answer() -> dict[str, object]:
    since = SystemClock().now() - timedelta(hours=26)
    how = {"state": "watching", "pending": 0}
    return {
        "pid": _PID,
        "since": f"{since:%Y-%m-%dT%H:%M:%SZ}",
        "stale": [],
        "inboxes": [
            {"name": "recordings", "path": _INBOXES["recordings"], "mode": "events", "why": "ext4", **how},
            {"name": "board", "path": _INBOXES["board"], "mode": "scan",
             "why": "cifs does not report what other machines change", **how},
        ],
        "workers": {"busy": 2, "total": 5},
    }  # fmt: skip


@contextlib.asynccontextmanager
async def _daemon(state: Path) -> AsyncIterator[None]:
    """Hold the lock and answer like a daemon of that pid."""
    lock = lock_daemon(state)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{_PID}\n".encode(), 0)
    async with asyncio.TaskGroup() as group:
        shining = group.create_task(beacon.serve(state, _answer))
        while not (state / beacon.NAME).exists():
            await SystemClock().sleep(0.01)
        yield
        shining.cancel()
    os.close(lock)


async def _said(config: Path, *arguments: str) -> str:
    environ = {"PATH": os.environ["PATH"], "HOME": _HOME, "TNFD_CONFIG": str(config), "LANG": "C.UTF-8",
               "FORCE_COLOR": "1", "COLUMNS": "80", "PYTHONPATH": os.pathsep.join(sys.path)}  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tnfd", *arguments, env=environ, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return out.decode()


def _drawn(said: str, title: str) -> str:
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(Text.from_ansi(said.rstrip("\n")), soft_wrap=True)
    svg = console.export_svg(title=title, unique_id=title.replace(" ", "-"))
    return _FONT.sub("", svg).replace("Fira Code, monospace", "ui-monospace, monospace")


def make(target: Path) -> None:
    """Write the pictures into a folder."""
    with tempfile.TemporaryDirectory(prefix="tnfd-pictures-") as name:
        state, config = Path(name, "state"), Path(name, "config.toml")
        state.mkdir(mode=0o700)
        config.write_text(_CONFIG.replace("STATE", str(state)))
        for command, drawn in asyncio.run(_pictures(state, config)).items():
            (target / f"{command}.svg").write_text(drawn, encoding="utf-8")


async def _pictures(state: Path, config: Path) -> dict[str, str]:
    end = SystemClock().now().replace(microsecond=0)
    clock = FakeClock(end - timedelta(days=2))
    store = SqliteStore(state, clock, owner="daemon-1", pid=_PID, kind="daemon", budget=Budget())
    async with store, _daemon(state):
        await _play(store, clock, end)
        return {
            command: _drawn(await _said(config, command), f"tnfd {command}") for command in ("status", "jobs")
        }


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    make(TARGET)
