"""What the benchmarks share: audio, the local API server, plain scripts to compare with, reading the log."""

from __future__ import annotations

import array
import contextlib
import json
import random
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RATE = 16_000

# A script as people write it: one file after the other.
SEQUENTIAL_SCRIPT = """
import pathlib, sys, openai
client = openai.OpenAI(base_url=sys.argv[1], api_key="x")
for path in sorted(pathlib.Path(sys.argv[3]).glob("*.wav")):
    answer = client.audio.transcriptions.create(model="whisper-1", file=path)
    path.with_suffix(".txt").write_text(answer.text)
"""

# The same with a semaphore.
PLAIN_SCRIPT = """
import asyncio, pathlib, sys, openai
async def main(url, slots, folder):
    client, gate = openai.AsyncOpenAI(base_url=url, api_key="x"), asyncio.Semaphore(slots)
    async def one(path):
        async with gate:
            answer = await client.audio.transcriptions.create(model="whisper-1", file=path)
            path.with_suffix(".txt").write_text(answer.text)
    await asyncio.gather(*(one(path) for path in sorted(pathlib.Path(folder).glob("*.wav"))))
asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
"""


# The same as people write it once they have met a limit: three attempts, each with the SDK's own two retries.
RETRYING_SCRIPT = """
import asyncio, pathlib, sys, openai
async def main(url, slots, folder):
    client, gate = openai.AsyncOpenAI(base_url=url, api_key="x"), asyncio.Semaphore(slots)
    async def one(path):
        async with gate:
            for attempt in range(3):
                try:
                    answer = await client.audio.transcriptions.create(model="whisper-1", file=path)
                    path.with_suffix(".txt").write_text(answer.text)
                    return
                except openai.OpenAIError:
                    await asyncio.sleep(2 ** attempt)
    await asyncio.gather(*(one(path) for path in sorted(pathlib.Path(folder).glob("*.wav"))))
asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
"""


def make_audio(path: Path, seed: int, length_s: float) -> None:
    """A quiet hum with clicks, different for each seed; written under a hidden name first."""
    chance = random.Random(seed)
    period = [chance.randint(-4000, 4000) for _ in range(chance.randint(80, 400))]
    count = int(length_s * RATE)
    samples = array.array("h", (period * (count // len(period) + 1))[:count])
    hidden = path.with_name("." + path.name)
    with wave.open(str(hidden), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    hidden.rename(path)


@contextlib.contextmanager
def api_server(folder: Path, latency_s: float, per_audio_s: float) -> Iterator[tuple[str, Path]]:
    """The local server as a process of its own; its URL and its log of requests."""
    log = folder / "requests.jsonl"
    command = [sys.executable, "-m", "tnfd.testing.api_server", "--latency", str(latency_s)]
    command += ["--per-audio", str(per_audio_s), "--log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip(), log
        finally:
            server.terminate()


def wait_until(fact: Any, limit_s: float) -> None:
    """Poll a fact.

    Raises:
        SystemExit: it did not come true in time.
    """
    end = time.monotonic() + limit_s
    while not fact():
        if time.monotonic() > end:
            raise SystemExit("benchmark: waited in vain")
        time.sleep(0.1)


def requests_since(log: Path, since: float) -> list[dict[str, Any]]:
    """Requests that began at ``since`` (seconds on the monotonic clock, which processes share) or later."""
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [row for row in rows if row["started_at"] >= since]


def busy_share(log: Path, since: float, slots: int) -> dict[str, float]:
    """From the server's log: share of the slots in use between the first and the last request's start."""
    spans = sorted((row["started_at"], row["answered_at"]) for row in requests_since(log, since))
    first, last = spans[0][0], spans[-1][0]
    used = sum(min(end, last) - start for start, end in spans if start < last)
    return {
        "requests": len(spans),
        "span_s": last - first,
        "busy_percent": 100 * used / (slots * (last - first)) if last > first else 100.0,
        "makespan_s": max(end for _, end in spans) - first,
    }
