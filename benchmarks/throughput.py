"""How long many files take: a plain sequential loop, a semaphore-and-gather script, and ``tnfd batch``.

Starts the local API server and runs all of them as whole processes, from start to exit, each on its own copy
of the same recordings: 50 files of 5 to 14 s (an answer takes 2 s and 0.1 s for each second of audio) with 5,
10 and 20 requests at once; then three tables by the time that a file takes, scaled down: 10 files of
1 minute, 20 of 5 and 50 of 2, one after the other against 5 at once. Speed-ups are against the sequential
loop of the same run.

    python -m benchmarks.throughput [--only NAME]... [--slots N]... [--files 50] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from benchmarks.parts import (
    PLAIN_SCRIPT,
    SEQUENTIAL_SCRIPT,
    api_server,
    busy_share,
    make_audio,
    requests_since,
)

LATENCY_S, PER_AUDIO_S = 2.0, 0.1
WANTED = {5: 4.7, 20: 14.0}  # speed-up against the sequential loop
RESTED_S = 6.0  # files younger than settle_s would be waited for


@dataclass(frozen=True, slots=True)
class Scenario:
    """Recordings and how they are run. ``script``: also the semaphore-and-gather script."""

    name: str
    lengths_s: tuple[float, ...]
    slots: tuple[int, ...]
    latency_s: float = LATENCY_S
    script: bool = True


@dataclass(slots=True)
class Figures:
    """One run of one program."""

    scenario: str
    program: str
    slots: int
    files: int
    makespan_s: float
    speed_up: float
    ideal: float
    busy_percent: float
    first_request_s: float
    after_last_answer_s: float
    peak_pss_mb: float
    bytes_an_audio_hour: float


def scenarios(files: int) -> list[Scenario]:
    """The seed scenario, and the three tables."""
    seed = tuple(5 + 9 * (number % 10) / 9 for number in range(files))
    return [
        Scenario("50 short", seed, (5, 10, 20)),
        table("10 of 1 min", 10, 60 / 4),
        table("20 of 5 min", 20, 300 / 40),
        table("50 of 2 min", 50, 120 / 40),
    ]


def table(name: str, files: int, takes_s: float) -> Scenario:
    """So many short recordings, each of which takes so long."""
    length_s = 10.0
    latency_s = takes_s - PER_AUDIO_S * length_s
    return Scenario(name, (length_s,) * files, (5,), latency_s, script=False)


class Memory(threading.Thread):
    """Watches the proportional set size of a process and all below it."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._ended = threading.Event()
        self.peak_mb = 0.0

    def run(self) -> None:
        """Look again and again."""
        while not self._ended.wait(1.0):
            total = 0
            try:
                process = psutil.Process(self._pid)
                for one in (process, *process.children(recursive=True)):
                    total += pss_of(one.pid)
            except psutil.Error:
                continue
            self.peak_mb = max(self.peak_mb, total / 2**20)

    def end(self) -> float:
        """Stop looking; the highest sum in MB."""
        self._ended.set()
        self.join()
        return self.peak_mb


def pss_of(pid: int) -> int:
    """Bytes; 0 for a process that has ended. The summary of /proc is much cheaper than psutil's sum."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def run(command: Sequence[str], environ: dict[str, str]) -> tuple[float, float, float, float]:
    """When it began and ended (monotonic), the seconds it took, peak PSS in MB."""
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environ) as process:
        memory = Memory(process.pid)
        memory.start()
        _, said = process.communicate()
    ended = time.monotonic()
    if process.returncode:
        raise SystemExit(f"benchmark: exit {process.returncode}: {said.decode()[-2000:]}")
    return began, ended, ended - began, memory.end()


def ideal(lengths_s: Sequence[float], latency_s: float, slots: int) -> float:
    """The speed-up of requests alone, packed as well as longest-first packs them."""
    spans = sorted((latency_s + PER_AUDIO_S * one for one in lengths_s), reverse=True)
    ends = [0.0] * slots
    for span in spans:
        ends[ends.index(min(ends))] += span
    return sum(spans) / max(ends)


def measure(
    scenario: Scenario, folder: Path, url: str, log: Path, sequential_s: float = 0.0
) -> list[Figures]:
    """All programs on one scenario."""
    lengths = scenario.lengths_s
    source = folder / "source"
    source.mkdir()
    for number, length_s in enumerate(lengths):
        make_audio(source / f"talk-{number:03}.wav", 1000 + number, length_s)
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("TNFD_", "OPENAI_"))}
    found: list[Figures] = []
    plans = [] if sequential_s else [("sequential", 1)]
    plans += [("script", slots) for slots in scenario.slots if scenario.script]
    plans += [("tnfd batch", slots) for slots in scenario.slots]
    for program, slots in plans:
        shutil.copytree(source, folder / f"{program.split()[0]}-{slots}")
    time.sleep(RESTED_S)
    for program, slots in plans:
        place = folder / f"{program.split()[0]}-{slots}"
        command = command_of(program, slots, place, folder, url)
        began, ended, took_s, peak_mb = run(command, environ)
        if len(list(place.glob("*.txt"))) != len(lengths):
            raise SystemExit(f"benchmark: {program} has not written {len(lengths)} transcripts")
        sequential_s = sequential_s or took_s
        rows = requests_since(log, began)
        audio_h = sum(lengths) / 3600
        share = busy_share(log, began, slots)
        found.append(
            Figures(
                scenario.name, program, slots, len(lengths), took_s, sequential_s / took_s,
                ideal(lengths, scenario.latency_s, slots), share["busy_percent"],
                min(row["started_at"] for row in rows) - began,
                ended - max(row["answered_at"] for row in rows),
                peak_mb, sum(row["file_bytes"] for row in rows) / audio_h,
            )
        )  # fmt: skip
        show(found[-1])
    return found


def command_of(program: str, slots: int, place: Path, folder: Path, url: str) -> list[str]:
    if program != "tnfd batch":
        script = SEQUENTIAL_SCRIPT if program == "sequential" else PLAIN_SCRIPT
        return [sys.executable, "-c", script, url, str(slots), str(place)]
    config = folder / f"config-{slots}.toml"
    config.write_text(
        f'[daemon]\nstate_dir = "{folder}/state-{slots}"\n[engines.local]\ntype = "openai"\n'
        f'model = "whisper-1"\nbase_url = "{url}"\nprice_usd_per_minute = 0\n'
    )
    given = ["batch", str(place), "--config", str(config), "--concurrency", str(slots)]
    return [sys.executable, "-m", "tnfd", *given]


def show(one: Figures) -> None:
    wanted = WANTED.get(one.slots, 0.0) if one.program == "tnfd batch" else 0.0
    mark = "   " if not wanted else "ok " if one.speed_up >= wanted else "NOT"
    print(
        f"{mark} {one.scenario:<12} {one.program:<11} {one.slots:>3}  {one.makespan_s:>7.2f} s  "
        f"x{one.speed_up:>5.2f} (of {one.ideal:>5.2f})  busy {one.busy_percent:>5.1f} %  "
        f"first {one.first_request_s:>5.2f} s  tail {one.after_last_answer_s:>5.2f} s  "
        f"{one.peak_pss_mb:>6.1f} MB  {one.bytes_an_audio_hour / 1e6:>6.1f} MB/h",
        flush=True,
    )


def main() -> None:
    """Run and print; exit 1 if a figure is missed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--only", action="append", help="a scenario's name; several times for several")
    options.add_argument("--files", type=int, default=50, help="of the first scenario")
    options.add_argument("--slots", action="append", type=int, help="of those that a scenario has")
    options.add_argument("--sequential-s", type=float, default=0.0, help="instead of running the loop")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    results: list[Figures] = []
    print("    scenario     program   slots   makespan  speed-up (ideal)  slots busy  start and end  "
          "peak PSS   uploaded an audio hour")  # fmt: skip
    for scenario in scenarios(given.files):
        if given.only and scenario.name not in given.only:
            continue
        slots = tuple(one for one in scenario.slots if not given.slots or one in given.slots)
        with tempfile.TemporaryDirectory(prefix="tnfd-bench-") as name:
            folder = Path(name)
            with api_server(folder, scenario.latency_s, PER_AUDIO_S) as (url, log):
                chosen = replace(scenario, slots=slots)
                results += measure(chosen, folder, url, log, given.sequential_s)
    if given.json:
        given.json.write_text(json.dumps([asdict(one) for one in results], indent=2) + "\n")
    ours = [one for one in results if one.program == "tnfd batch"]
    sys.exit(0 if all(one.speed_up >= WANTED.get(one.slots, 0.0) for one in ours) else 1)


if __name__ == "__main__":
    main()
