"""What the daemon costs while nothing happens, and how busy it keeps the engine's slots while much happens.

Starts the local API server and the real daemon, lets it finish 5 files, then watches it idle; then drops many
short files at once and reads from the server's own log how many of the slots were in use until the last
request was sent. Beside each figure stands a plain alternative of the same run: a Python that only imports
openai; a script that sends the same files with a semaphore.

    python -m benchmarks.idle [--files 200] [--slots 5] [--idle-s 30] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.parts import PLAIN_SCRIPT, api_server, busy_share, make_audio, wait_until

TARGET_RSS_MB, TARGET_CPU, TARGET_BUSY = 75.0, 0.5, 95.0


@contextlib.contextmanager
def daemon(folder: Path, url: str, slots: int) -> Iterator[psutil.Process]:
    """The real daemon on ``folder/inbox``."""
    (folder / "inbox").mkdir()
    config = folder / "config.toml"
    config.write_text(
        f'[daemon]\nstate_dir = "{folder}/state"\nworkers = {slots}\n'
        f'[[inbox]]\npath = "{folder}/inbox"\nsettle_s = 0.3\n'
        f'[engines.local]\ntype = "openai"\nmodel = "whisper-1"\nbase_url = "{url}"\n'
        f"max_concurrency = {slots}\nprice_usd_per_minute = 0\n"
    )
    with (folder / "daemon.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "tnfd", "run", "--config", str(config)], stderr=log)
        try:
            wait_until(lambda: "daemon.ready" in (folder / "daemon.log").read_text(), 30)
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def finished(inbox: Path) -> int:
    return sum(1 for name in os.listdir(inbox) if name.endswith(".txt"))


def idle(process: psutil.Process, span_s: float) -> dict[str, float]:
    """RSS (MB) and CPU (percent of one core) over ``span_s`` seconds."""
    before, start = process.cpu_times(), time.monotonic()
    children_before = sum_cpu(process)
    time.sleep(span_s)
    took_s = time.monotonic() - start
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    tree = [process, *process.children(recursive=True)]
    return {
        "rss_mb": process.memory_info().rss / 2**20,
        "cpu_percent": 100 * used / took_s,
        "children_cpu_percent": 100 * (sum_cpu(process) - children_before) / took_s,
        "tree_pss_mb": sum(one.memory_full_info().pss for one in tree) / 2**20,
    }


def sum_cpu(process: psutil.Process) -> float:
    return sum(sum(child.cpu_times()[:2]) for child in process.children(recursive=True))


def bare_rss_mb() -> float:
    """RSS of a Python that has only imported openai."""
    code = "import openai, psutil; print(psutil.Process().memory_info().rss)"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) / 2**20


def main() -> None:
    """Run and print; exit 1 if a figure is missed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--files", type=int, default=200)
    options.add_argument("--slots", type=int, default=5)
    options.add_argument("--idle-s", type=float, default=30)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    results: dict[str, Any] = {"bare_openai_rss_mb": bare_rss_mb()}
    with tempfile.TemporaryDirectory(prefix="tnfd-bench-") as name:
        folder = Path(name)
        with api_server(folder, 2.0, 0.1) as (url, log), daemon(folder, url, given.slots) as process:
            inbox = folder / "inbox"
            for number in range(5):
                make_audio(inbox / f"first-{number}.wav", number, 5)
            wait_until(lambda: finished(inbox) == 5, 60)
            time.sleep(2)  # what follows a finished file
            results["after_5_files"] = idle(process, given.idle_s)
            lengths = [5 + 9 * (number % 10) / 9 for number in range(given.files)]
            for number, length_s in enumerate(lengths):
                make_audio(inbox / f"many-{number}.wav", 1000 + number, length_s)
            since = last_start(log) + 0.001
            wait_until(lambda: finished(inbox) == 5 + given.files, 60 + given.files * 3.5)
            results["drop"] = busy_share(log, since, given.slots)
            results["after_drop"] = idle(process, 5)
            plain = folder / "plain"
            plain.mkdir()
            for number, length_s in enumerate(lengths):
                make_audio(plain / f"many-{number}.wav", 5000 + number, length_s)
            since = last_start(log) + 0.001
            subprocess.run(
                [sys.executable, "-c", PLAIN_SCRIPT, url, str(given.slots), str(plain)], check=True
            )
            results["plain_script"] = busy_share(log, since, given.slots)
    report(results, given.json)


def last_start(log: Path) -> float:
    return max(float(json.loads(line)["started_at"]) for line in log.read_text().splitlines())


def report(results: dict[str, Any], file: Path | None) -> None:
    """Print the figures beside what they should reach."""
    rest, drop, plain = results["after_5_files"], results["drop"], results["plain_script"]
    rows = [
        ("RSS idle after 5 files", f"{rest['rss_mb']:.1f} MB", f"< {TARGET_RSS_MB:.0f} MB",
         f"{results['bare_openai_rss_mb']:.1f} MB: a Python that imports openai",
         rest["rss_mb"] < TARGET_RSS_MB),
        ("CPU idle", f"{rest['cpu_percent']:.2f} %", f"< {TARGET_CPU} %",
         f"{rest['children_cpu_percent']:.2f} %: its children", rest["cpu_percent"] < TARGET_CPU),
        (f"slots busy, {drop['requests']} files", f"{drop['busy_percent']:.1f} %", f">= {TARGET_BUSY:.0f} %",
         f"{plain['busy_percent']:.1f} %: a semaphore script", drop["busy_percent"] >= TARGET_BUSY),
        ("makespan of the drop", f"{drop['makespan_s']:.1f} s", "",
         f"{plain['makespan_s']:.1f} s: a semaphore script", True),
        ("PSS of all processes, idle", f"{rest['tree_pss_mb']:.1f} MB", "", "", True),
        ("RSS after the drop", f"{results['after_drop']['rss_mb']:.1f} MB", "", "", True),
    ]  # fmt: skip
    for what, value, target, beside, good in rows:
        print(f"{'ok ' if good else 'NOT'}  {what:<28} {value:>10}  {target:<9}  {beside}")
    if file is not None:
        file.write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(0 if all(row[-1] for row in rows) else 1)


if __name__ == "__main__":
    main()
