"""The real daemon for an hour (``make soak``), thousands of files, random faults; ``--minutes 3`` for less.

Proves that memory, file handles, threads, children and the database (for each file) do not grow: after a
fifth of the time, medians of the second half are compared with those of the first. Exit code 0 where all are
flat and every file came to its end.
"""
# ruff: noqa: T201  what a program says

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tests.e2e.daemon import FINAL, Daemon, Site, read_status
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import HTML, MALFORMED, SERVER_ERROR, Behaviour, Ok, Reset, Status
from tnfd.testing.records import Request

_AT_ONCE = 20
_EVERY_S = 5.0
_SAY_EVERY = 12  # samples: once a minute
_LAST_S = 120.0  # for what is still under way at the end
_WARM = 0.2  # of the time: caches fill, libraries load


@dataclass(frozen=True, slots=True)
class Sample:
    """What the daemon holds at one moment; of its children only how many."""

    files: int
    rss_mb: float
    handles: int
    threads: int
    children: int
    database_bytes_per_file: float
    zombies: int


def look(daemon: Daemon, site: Site, files: int) -> Sample:
    process = psutil.Process(daemon.pid)
    children = daemon.look_around()
    database = sum(path.stat().st_size for path in site.state.glob("tnfd.sqlite3*"))
    return Sample(
        files,
        process.memory_info().rss / 1e6,
        process.num_fds(),
        process.num_threads(),
        len(children),
        database / max(files, 1),
        sum(child.is_running() and child.status() == psutil.STATUS_ZOMBIE for child in children),
    )


def faulty(chance: random.Random) -> Behaviour:
    """One request in ten goes wrong, in one of the ways that servers have."""
    slow = Status(429, "rate_limit_exceeded", "requests", headers={"retry-after": "0.2"})
    if chance.random() < 0.9:
        return Ok()
    return chance.choice((SERVER_ERROR, MALFORMED, HTML, Reset(), slow))


async def feed(site: Site, chance: random.Random, ends_at: float, counts: dict[str, int]) -> None:
    """Keep some files in work; now and then junk, copies, and files that leave or change under way."""
    under_way: set[Path] = set()
    while time.monotonic() < ends_at or under_way:
        if time.monotonic() > ends_at + _LAST_S:
            print(
                "these did not come to an end:",
                *(f"{path.name}: {site.state_of(path)}" for path in under_way),
            )
            return
        for path in list(under_way):
            status = read_status(path.with_name(path.name + ".status.json"))
            if (status is not None and status["state"] in FINAL) or not path.exists():
                under_way.remove(path)
                counts["ended"] += 1
                for made in (path, path.with_suffix(".txt"), path.with_name(path.name + ".status.json")):
                    if chance.random() < 0.9:  # people clear up; some of it stays
                        made.unlink(missing_ok=True)
        while len(under_way) < _AT_ONCE and time.monotonic() < ends_at:
            number = counts["dropped"]
            counts["dropped"] += 1
            if chance.random() < 0.05:
                path = site.put(site.stage(chance.randbytes(3000)), f"{number}.mp3")
            else:
                seed = chance.randrange(number + 1) if chance.random() < 0.1 else 10**6 + number
                path = site.drop(f"{number}.wav", 0.5, seed=seed)
            under_way.add(path)
            if chance.random() < 0.03:
                path.unlink()
        await asyncio.sleep(0.05)


def say(sample: Sample) -> None:
    print(json.dumps({key: round(value, 1) for key, value in asdict(sample).items()}), flush=True)


def verdict(samples: list[Sample]) -> list[str]:
    """What grew; empty: nothing did."""
    warm = samples[int(len(samples) * _WARM) :]
    half = len(warm) // 2
    grown = []
    for name, slack in (("rss_mb", 1.10), ("handles", 1.10), ("threads", 1.10), ("children", 1.5),
                        ("database_bytes_per_file", 1.10)):  # fmt: skip
        before = statistics.median(getattr(one, name) for one in warm[:half])
        after = statistics.median(getattr(one, name) for one in warm[half:])
        if after > before * slack + 3:
            grown.append(f"{name}: {before:.1f} -> {after:.1f}")
    if any(one.zombies > 2 for one in warm):
        grown.append("dead children are not reaped")
    return grown


async def soak(minutes: float, seed: int) -> int:
    chance, counts = random.Random(seed), {"dropped": 0, "ended": 0}
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory() as base:
        async with ApiServer(base_s=0.02) as server:

            def choose(_: Request) -> Behaviour:
                return faulty(chance)

            server.choose = choose
            site = Site(Path(base), server.url)
            site.configure(daemon={"max_attempts": 8, "backoff_s": [0.1, 0.5]})
            async with site.daemon(sound=False) as daemon:
                ends_at = time.monotonic() + minutes * 60
                feeding = asyncio.create_task(feed(site, chance, ends_at, counts))
                while not feeding.done():
                    await asyncio.wait({feeding}, timeout=_EVERY_S)
                    samples.append(look(daemon, site, counts["ended"]))
                    if len(samples) % _SAY_EVERY == 1:
                        say(samples[-1])
                    daemon.events.clear()  # ours must not grow either
                    server.requests[:-100] = []
                    resumed = await site.tnfd("resume")  # an engine that three faults in a row have paused
                    assert resumed.code == 0
                await feeding
                crashed = daemon.noise
                code = await daemon.stop()
    grown = verdict(samples)
    say(samples[-1])
    ended = f"{counts['dropped']} files, {counts['ended']} came to an end; exit code {code}"
    print(f"{ended}; grown: {grown or 'nothing'}")
    return 1 if grown or crashed or code or counts["dropped"] != counts["ended"] else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.exit(asyncio.run(soak(options.minutes, options.seed)))
