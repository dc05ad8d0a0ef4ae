"""What becomes of 50 files at a server that limits, fails and refuses: ``tnfd`` beside a plain script.

Starts the local API server, which keeps a real limit (a bucket that refills all the time; empty when a
program starts, so that the best possible makespan is the time for 50 tokens and one answer), and runs whole
processes:

- ``rate``: a limit of requests a minute, with 5, 10 and 20 workers; ``tnfd batch`` and a semaphore-and-gather
  script with three attempts and the SDK's own retries. ``refused``: refused requests take tokens as well.
  ``burst``: the bucket holds a single token, so that what is not used at once is lost (to look at: no figure
  is to be reached).
- faults, ``tnfd batch`` alone: ``500`` (each tenth), ``outage`` of 20 s (the server's process is gone),
  ``resets`` in mid-upload, ``lost`` answers after they were paid, ``hangs``, ``malformed`` JSON, an ``html``
  page on 200, ``poison``: one file on which the server always fails.
- ``quota``: the daemon and 50 files, insufficient_quota until its return; ``budget``: a daemon and two
  batches at once on one budget.

The default run is scaled to take about five minutes: 300 requests a minute instead of 60, answers in 0.2 s
instead of 1 s, and two of the worker counts. That leaves the ratios as they are but for start and exit (about
1.5 s, more of 10 s than of 50).
``--full`` runs 60 requests a minute with all of them, about twenty minutes.

    python -m benchmarks.limits [--full] [--only NAME]... [--workers N]... [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.parts import RETRYING_SCRIPT, make_audio, requests_since, wait_until

FILES = 50
LATENCY_S = 1.0
AUDIO_S = 6.0
RESTED_S = 6.0  # files younger than settle_s would be waited for
MOST_REFUSED, MOST_OF_IDEAL = 2, 1.05
OUTAGE_S = 20.0
USD_A_MINUTE = 0.6  # 6 cents a file


@dataclass(slots=True)
class Outcome:
    """One run of one program. ``good``: all that was to be reached; None: nothing was (the script)."""

    scenario: str
    program: str
    workers: int
    files: int
    lost: int
    requests: int
    refused: int
    paid: int
    makespan_s: float
    ideal_s: float | None = None
    good: bool | None = None
    note: str = ""

    def show(self) -> None:
        """One line."""
        mark = {True: "ok ", False: "NOT", None: "   "}[self.good]
        ideal = f"x{self.makespan_s / self.ideal_s:.3f} of {self.ideal_s:5.1f} s" if self.ideal_s else ""
        print(
            f"{mark} {self.scenario:<24} {self.program:<7} {self.workers:>2}  lost {self.lost:>2}  "
            f"requests {self.requests:>4}  429 {self.refused:>3}  paid {self.paid:>3}  "
            f"{self.makespan_s:>6.1f} s  {ideal:<16} {self.note}",
            flush=True,
        )


@dataclass(slots=True)
class Server:
    """The local API server as a process that can be ended and started again at the same address."""

    folder: Path
    port: int = 0
    url: str = ""
    process: subprocess.Popen[str] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        """A JSON line a request."""
        return self.folder / "requests.jsonl"

    def start(self) -> None:
        """Begin to listen, at the port of the last time."""
        command = [sys.executable, "-m", "tnfd.testing.api_server", "--latency", str(LATENCY_S)]
        command += ["--port", str(self.port), "--log", str(self.log)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.port = int(self.url.rpartition(":")[2].partition("/")[0])

    def stop(self) -> None:
        """End at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    def control(self, **order: Any) -> None:
        """Change its behaviour."""
        body = json.dumps(order).encode()
        at = self.url.removesuffix("/v1") + "/control"
        with urllib.request.urlopen(urllib.request.Request(at, body, method="POST"), timeout=10) as answer:  # noqa: S310 - loopback
            answer.read()

    def calm(self) -> None:
        """Answer everything again, without a limit."""
        self.control(every=None, always=None, limit=None, poison=None, base_s=LATENCY_S)


class Place:
    """One program's recordings and, for tnfd, its configuration and state."""

    def __init__(self, folder: Path, source: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.files = folder / "files"
        shutil.copytree(source, self.files)
        self.made_at = time.monotonic()
        self.configure()

    def configure(self, *, budget_usd: float = 0.0, inbox: bool = False, **engine: Any) -> None:
        """Write the configuration."""
        settings = {"type": "openai", "model": "whisper-1", "base_url": self.url, "price_usd_per_minute": 0}
        settings |= engine
        lines = [f'[daemon]\nstate_dir = "{self.folder}/state"\nlog_format = "json"\nworkers = 10']
        if inbox:
            lines.append(f'[[inbox]]\npath = "{self.files}"\nsettle_s = 0.5')
        lines.append(
            "[engines.local]\n" + "\n".join(f"{key} = {json.dumps(v)}" for key, v in settings.items())
        )
        lines.append(f"[budget]\ndaily_usd = {budget_usd}")
        (self.folder / "tnfd.toml").write_text("\n".join(lines) + "\n")

    def rest(self) -> None:
        """Wait until the recordings count as settled."""
        time.sleep(max(0.0, self.made_at + RESTED_S - time.monotonic()))

    @property
    def done(self) -> int:
        """How many transcripts there are."""
        return len(list(self.files.rglob("*.txt")))

    def command(self, *words: str) -> list[str]:
        """A command line of tnfd."""
        return [sys.executable, "-m", "tnfd", *words, "--config", str(self.folder / "tnfd.toml")]

    def tnfd(self, *words: str) -> Any:
        """Run a command to its end; what it printed."""
        ran = subprocess.run(self.command(*words), env=environ(), capture_output=True, text=True, check=False)
        return json.loads(ran.stdout) if "--json" in words else ran.stdout

    @contextlib.contextmanager
    def daemon(self) -> Iterator[None]:
        """Run the daemon meanwhile."""
        with (self.folder / "daemon.log").open("w") as log:
            process = subprocess.Popen(self.command("run"), env=environ(), stderr=log)
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


def environ() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("TNFD_", "OPENAI_"))}


class Bench:
    """Runs scenarios on one server."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.server = server
        self.source = folder / "source"
        self.source.mkdir()
        for number in range(FILES):
            make_audio(self.source / f"talk-{number:03}.wav", 1000 + number, AUDIO_S)
        self.outcomes: list[Outcome] = []
        self._made = 0

    def place(self) -> Place:
        """A fresh copy of all recordings."""
        self._made += 1
        folder = self.folder / f"place-{self._made}"
        folder.mkdir()
        return Place(folder, self.source, self.server.url)

    def run(
        self,
        scenario: str,
        program: str,
        workers: int,
        *,
        meanwhile: Callable[[subprocess.Popen[bytes]], None] | None = None,
        place: Place | None = None,
        order: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """One program from start to exit, under what the server is told right before."""
        place = place or self.place()
        place.rest()
        if program == "script":
            command = [sys.executable, "-c", RETRYING_SCRIPT, self.server.url, str(workers), str(place.files)]
        else:
            command = place.command("batch", str(place.files), "--concurrency", str(workers))
        self.server.calm()
        self.server.control(**(order or {}))
        began = time.monotonic()
        with subprocess.Popen(
            command, env=environ(), stdout=subprocess.DEVNULL, stderr=(place.folder / "stderr").open("w")
        ) as process:
            if meanwhile is not None:
                meanwhile(process)
            process.wait()
        return self.outcome(scenario, program, workers, place, began)

    def outcome(self, scenario: str, program: str, workers: int, place: Place, began: float) -> Outcome:
        """Count what happened since."""
        took_s = time.monotonic() - began
        rows = requests_since(self.server.log, began)
        return Outcome(
            scenario, program, workers, FILES, FILES - place.done, len(rows),
            sum(row["status"] == 429 for row in rows), sum(row["paid"] for row in rows), took_s,
        )  # fmt: skip

    def note(self, outcome: Outcome) -> None:
        """Keep and show."""
        self.outcomes.append(outcome)
        outcome.show()

    # -- the rate ------------------------------------------------------------------------------------

    def rate(self, per_minute: float, workers: tuple[int, ...], scenario: str, **limit: Any) -> None:
        """Both programs at a limit."""
        latency_s = LATENCY_S * 60 / per_minute
        order = {"limit": {"per_minute": per_minute, "tokens": 0, **limit}, "base_s": latency_s}
        ideal_s = FILES * 60 / per_minute + latency_s
        for count in workers:
            for program in ("script", "tnfd"):
                one = self.run(scenario, program, count, order=order)
                one.ideal_s = ideal_s
                if program == "tnfd" and limit.get("burst") != 1:
                    one.good = (
                        not one.lost
                        and one.refused <= MOST_REFUSED
                        and one.makespan_s <= MOST_OF_IDEAL * ideal_s
                    )
                self.note(one)

    # -- faults --------------------------------------------------------------------------------------

    def fault(
        self, scenario: str, behaviour: Any, *, nth: int = 10, most: int, timeout_s: float = 0.0
    ) -> None:
        """Each n-th request behaves so; every file is done all the same, with at most so many requests."""
        place = self.place()
        place.configure(timeout_s=timeout_s)
        one = self.run(scenario, "tnfd", 10, place=place, order={"every": [nth, behaviour]})
        one.good = not one.lost and one.requests <= most
        one.note = f"at most {most} requests"
        self.note(one)

    def outage(self) -> None:
        """The server is gone for a while, in the middle."""

        def meanwhile(_process: subprocess.Popen[bytes]) -> None:
            time.sleep(4.0)
            self.server.stop()
            time.sleep(OUTAGE_S)
            self.server.start()

        place = self.place()
        one = self.run("outage of 20 s", "tnfd", 10, place=place, meanwhile=meanwhile)
        failures = [job["failures"] for job in place.tnfd("jobs", "--json")]
        one.good = not one.lost and one.requests <= FILES + 10
        one.note = f"failures counted: {sum(failures)}"
        self.note(one)

    def poison(self) -> None:
        """The server always fails on one file; that one fails alone."""
        place = self.place()
        sha = self.poisonous(place)
        one = self.run("one poisonous file", "tnfd", 5, place=place, order={"poison": sha})
        jobs = {Path(job["path"]).name: job for job in place.tnfd("jobs", "--json")}
        failed = [name for name, job in jobs.items() if job["state"] != "done"]
        code = jobs[failed[0]]["error"]["code"] if len(failed) == 1 else ""
        one.good = one.lost == 1 and code == "engine.chokes" and one.requests == FILES + 2
        one.note = f"failed: {failed} {code}"
        self.note(one)

    def poisonous(self, place: Place) -> float:
        """Make one recording longer than the others; the server tells it by its length."""
        make_audio(place.files / "talk-010.wav", 5000, AUDIO_S + 5)
        place.made_at = time.monotonic()
        return AUDIO_S + 5

    # -- money ---------------------------------------------------------------------------------------

    def quota(self) -> None:
        """No quota, until it returns."""
        place = self.place()
        place.configure(inbox=True, max_concurrency=10)
        self.server.calm()
        self.server.control(always="no_quota")
        began = time.monotonic()
        with place.daemon():
            wait_until(lambda: _waiting(place).get("engine_paused") == FILES, 60)
            rows = requests_since(self.server.log, began)
            first = min(row["answered_at"] for row in rows)
            flying = sum(row["started_at"] <= first for row in rows)
            refused = len(rows)
            self.server.calm()
            place.tnfd("resume")
            wait_until(lambda: place.done == FILES, 120)
        one = self.outcome("insufficient_quota", "tnfd", 10, place, began)
        one.good = not one.lost and refused <= flying + 2
        one.note = f"{refused} refused, {flying} of them in flight at the first refusal"
        self.note(one)
        place = self.place()
        script = self.run("insufficient_quota", "script", 10, place=place, order={"always": "no_quota"})
        self.note(script)

    def budget(self, usd: float = 1.5) -> None:
        """A daemon and two batches at once on one budget."""
        place = self.place()
        for number in range(2):
            shutil.copytree(self.source, place.folder / f"more-{number}")
            for each, path in enumerate((place.folder / f"more-{number}").iterdir()):
                make_audio(path, 2000 + 100 * number + each, AUDIO_S)
        place.configure(
            inbox=True, budget_usd=usd, price_usd_per_minute=USD_A_MINUTE, max_concurrency=10
        )  # fmt: skip
        place.made_at = time.monotonic()
        place.rest()
        self.server.calm()
        began = time.monotonic()
        with place.daemon():
            batches = [
                subprocess.Popen(
                    place.command("batch", str(place.folder / f"more-{number}"), "--yes"),
                    env=environ(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
                for number in range(2)
            ]  # fmt: skip
            codes = [batch.wait(120) for batch in batches]
            wait_until(lambda: _waiting(place).get("budget", 0) >= 1, 60)
            status = place.tnfd("status", "--json")
        one = self.outcome("budget, three processes", "tnfd", 10, place, began)
        rows = requests_since(self.server.log, began)
        paid_usd = sum(row["audio_s"] for row in rows if row["paid"]) / 60 * USD_A_MINUTE
        booked_usd = status["spent"]["today_usd"]
        failed = status["counts"]["failed"]
        one.files, one.lost = 3 * FILES, failed
        one.good = not failed and max(paid_usd, booked_usd) <= usd + 0.01 and codes == [75, 75]
        one.note = f"paid ${paid_usd:.4f}, booked ${booked_usd:.4f} of ${usd}, batches exit {codes}"
        self.note(one)


def _waiting(place: Place) -> dict[str, int]:
    found: dict[str, int] = place.tnfd("status", "--json")["waiting"]
    return found


def scenarios(bench: Bench, *, full: bool, workers: tuple[int, ...]) -> dict[str, Callable[[], None]]:
    """By name."""
    rate = 60.0 if full else 300.0
    reset = {"kind": "reset", "when": "upload"}
    return {
        "rate": lambda: bench.rate(rate, workers, "rate"),
        "refused": lambda: bench.rate(rate, workers, "rate, refused count", counts_refused=True),
        "burst": lambda: bench.rate(rate, workers, "rate, burst 1", burst=1),
        "500": lambda: bench.fault("10 % of 500s", 500, most=56),
        "outage": bench.outage,
        "resets": lambda: bench.fault("resets in mid-upload", reset, most=56),
        "lost": lambda: bench.fault("answers lost, paid", "paid_then_lost", most=56),
        "hangs": lambda: bench.fault("hangs", "hang", most=56, timeout_s=4.0),
        "malformed": lambda: bench.fault("malformed JSON", "malformed", most=56),
        "html": lambda: bench.fault("HTML on 200", "html", most=56),
        "poison": bench.poison,
        "quota": bench.quota,
        "budget": bench.budget,
    }


def main() -> None:
    """Run and print; exit 1 if a figure is missed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--full", action="store_true", help="60 requests a minute, all worker counts")
    options.add_argument("--only", action="append", help="a scenario's short name; several times for several")
    options.add_argument("--workers", action="append", type=int, help="of the rate scenarios")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    workers = tuple(given.workers or ((5, 10, 20) if given.full else (5, 20)))
    with tempfile.TemporaryDirectory(prefix="tnfd-bench-") as name:
        server = Server(Path(name))
        server.start()
        try:
            bench = Bench(Path(name), server)
            for short, scenario in scenarios(bench, full=given.full, workers=workers).items():
                if not given.only or short in given.only:
                    scenario()
        finally:
            server.stop()
    if given.json:
        given.json.write_text(json.dumps([asdict(one) for one in bench.outcomes], indent=2) + "\n")
    sys.exit(0 if all(one.good is not False for one in bench.outcomes) else 1)


if __name__ == "__main__":
    main()
