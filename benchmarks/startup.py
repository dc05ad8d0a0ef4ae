"""How long the short commands take, beside a Python that does nothing; how soon the daemon is up, and gone.

The daemon has 10 inboxes and 1,000 files that it knows; "ready" is the READY=1 that a service manager waits
for.

python benchmarks/startup.py [--runs 21] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGETS_S = {"--help": 0.15, "--version": 0.15, "status": 0.30, "run to READY": 1.2, "idle to stopped": 1.0}
_INBOXES, _FILES = 10, 100  # files in each
_CONFIG = """
[daemon]
state_dir = "{folder}/state"
[[inbox]]
path = "{folder}"
[engines.local]
type = "openai"
base_url = "http://127.0.0.1:9/v1"
model = "whisper-1"
"""


def took_s(command: list[str], environ: dict[str, str]) -> float:
    """Seconds that a command takes; its exit code does not matter (status exits 3 without a daemon)."""
    began = time.perf_counter()
    subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - began


def main() -> None:
    """Run and print; exit 1 if a target is missed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--runs", type=int, default=21)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    tnfd = [sys.executable, "-m", "tnfd"]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "--help": [*tnfd, "--help"],
        "--version": [*tnfd, "--version"],
        "status": [*tnfd, "status"],
        "jobs": [*tnfd, "jobs"],
        "cancel --help": [*tnfd, "cancel", "--help"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory(prefix="tnfd-bench-") as folder:
        config = Path(folder, "config.toml")
        config.write_text(_CONFIG.format(folder=folder))
        environ = {**os.environ, "TNFD_CONFIG": str(config)}
        subprocess.run([*tnfd, "pause"], env=environ, check=True, capture_output=True)  # makes the database
        for run in range(given.runs + 1):
            for name, command in commands.items():  # in turns, so that a busy moment meets them all
                spent = took_s(command, environ)
                if run:  # the first run fills the caches
                    times[name].append(spent)
    times |= daemon_times(min(7, given.runs))
    medians = {name: statistics.median(spent) for name, spent in times.items()}
    report(medians, given.json)


def daemon_times(runs: int) -> dict[str, list[float]]:
    """Seconds from the daemon's start to READY=1, and from SIGTERM to its end while idle."""
    ready_s: list[float] = []
    stop_s: list[float] = []
    with tempfile.TemporaryDirectory(prefix="tnfd-bench-") as name:
        folder = Path(name)
        config = folder / "config.toml"
        text = _CONFIG.partition("[[inbox]]")[0].format(folder=folder)
        for number in range(_INBOXES):
            inbox = folder / f"inbox-{number}"
            inbox.mkdir()
            text += f'[[inbox]]\npath = "{inbox}"\nexisting = "skip"\n'
            for file in range(_FILES):
                (inbox / f"talk-{file:03}.mp3").write_bytes(b"known since the first start")
        config.write_text(text + _CONFIG[_CONFIG.index("[engines.local]") :])
        for run in range(runs + 1):
            ready, stopped = one_life(config, folder / "notify")
            if run:  # the first start makes the database, and gets to know the files
                ready_s.append(ready)
                stop_s.append(stopped)
    return {"run to READY": ready_s, "idle to stopped": stop_s}


def one_life(config: Path, address: Path) -> tuple[float, float]:
    """Start the daemon, wait until it is ready and idle, stop it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        address.unlink(missing_ok=True)
        listener.bind(str(address))
        listener.settimeout(30)
        began = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "tnfd", "run", "--config", str(config)],
            env={**os.environ, "NOTIFY_SOCKET": str(address)},
            stderr=subprocess.DEVNULL,
        ) as process:
            while b"READY=1" not in listener.recv(4096).split(b"\n"):
                pass
            ready = time.perf_counter() - began
            time.sleep(1.0)  # the first scan
            began = time.perf_counter()
            process.send_signal(signal.SIGTERM)
            code = process.wait(30)
            stopped = time.perf_counter() - began
            assert code == 0, f"the daemon ended with {code}"
    return ready, stopped


def report(medians: dict[str, float], file: Path | None) -> None:
    """Print the medians beside what they should reach, and as multiples of a Python that does nothing."""
    bare = medians["python -c pass"]
    missed = False
    for name, median in medians.items():
        target = TARGETS_S.get(name)
        late = target is not None and median > target
        missed |= late
        shown = f"<= {target:.2f} s" if target else ""
        print(f"{'NOT' if late else 'ok '}  {name:<16} {median:6.3f} s  {shown:<10}  {median / bare:5.1f} x")
    if file is not None:
        file.write_text(json.dumps(medians, indent=2) + "\n")
    sys.exit(missed)


if __name__ == "__main__":
    main()
