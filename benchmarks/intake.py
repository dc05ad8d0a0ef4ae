"""How soon a finished file is queued, that none is taken early, missed or taken twice, and what many cost.

Starts the real daemon on real folders; other processes write into them as programs do. What is said comes
from the daemon's log and its database. Requests are paused by command in all parts but ``unknown``.

    python -m benchmarks.intake [latency] [writers] [storm] [restart] [unknown] [mkdir]   (default: all)
        [--files 10000] [--known 100000] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import mmap
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import av
import psutil

from benchmarks.parts import api_server, make_audio

PARTS = ("latency", "writers", "storm", "mkdir", "restart", "unknown")
SETTLE_S = 5.0
Rows = list[tuple[str, str, str, bool]]  # what, value, target, reached


class Site:
    """A daemon over one inbox; ``log`` gives its events."""

    def __init__(self, base: Path, url: str = "", status: str = "failures") -> None:
        self.inbox = base / "in"
        self.state = base / "state"
        self.inbox.mkdir(parents=True, exist_ok=True)
        self._log = base / "daemon.log"
        self._config = base / "config.toml"
        self._config.write_text(
            f'[daemon]\nstate_dir = "{self.state}"\nlog_format = "json"\n'
            f'[[inbox]]\npath = "{self.inbox}"\nsettle_s = {SETTLE_S}\nstatus = "{status}"\n'
            f'[engines.local]\ntype = "openai"\nmodel = "whisper-1"\nbase_url = "{url or "http://127.0.0.1:9"}"\n'
            "price_usd_per_minute = 0\n"
        )
        if not url:
            self.tnfd("pause")

    def tnfd(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "tnfd", *arguments, "--config", str(self._config)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    @contextlib.contextmanager
    def daemon(self) -> Iterator[psutil.Process]:
        self._log.write_text("")
        with self._log.open("w") as log:
            command = [sys.executable, "-m", "tnfd", "run", "--config", str(self._config)]
            process = subprocess.Popen(command, stderr=log)
            try:
                wait_for(lambda: self.events("daemon.ready"), 60)
                yield psutil.Process(process.pid)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)

    def events(self, name: str) -> list[dict[str, Any]]:
        mark = f'"event":"{name}"', f'"event": "{name}"'
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if any(one in line for one in mark)]

    def queued_at(self) -> dict[str, float]:
        return {event["file"]: seconds(event) for event in reversed(self.events("job.queued"))}

    def jobs(self) -> list[tuple[str, str, str]]:
        with contextlib.closing(sqlite3.connect(f"file:{self.state}/tnfd.sqlite3?mode=ro", uri=True)) as db:
            return [
                (os.fsdecode(rel), sha256, state)
                for rel, sha256, state in db.execute("SELECT rel, sha256, state FROM job")
            ]

    def count(self) -> int:
        with contextlib.closing(sqlite3.connect(f"file:{self.state}/tnfd.sqlite3?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM job WHERE state <> 'settling'").fetchone()[0])


def seconds(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def wait_for(fact: Callable[[], object], limit_s: float, step_s: float = 0.02) -> None:
    end = time.monotonic() + limit_s
    while not fact():
        if time.monotonic() > end:
            raise SystemExit("benchmark: waited in vain")
        time.sleep(step_s)


def encoded(folder: Path) -> dict[str, bytes]:
    """The same recording in containers that prove that they are whole, and in one that cannot."""
    make_audio(folder / "sound.wav", 7, 20)
    found = {"wav": (folder / "sound.wav").read_bytes()}
    kinds = {
        "m4a": ("ipod", "aac"),
        "flac": ("flac", "flac"),
        "opus": ("opus", "libopus"),
        "mka": ("matroska", "aac"),
        "mp3": ("mp3", "libmp3lame"),
    }
    for extension, (muxer, codec) in kinds.items():
        path = folder / f"sound.{extension}"
        rate = 48_000 if codec == "libopus" else 16_000
        with av.open(str(folder / "sound.wav")) as source, av.open(str(path), "w", format=muxer) as out:
            stream: Any = out.add_stream(codec, rate=rate)
            stream.layout = "mono"
            resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
            for frame in source.decode(audio=0):
                for part in resampler.resample(frame):
                    out.mux(stream.encode(part))
            out.mux(stream.encode(None))
        found[extension] = path.read_bytes()
    return found


# -- latency ------------------------------------------------------------------------------------------------


def latency(base: Path) -> Rows:
    """From the end of writing to the durable claim, one file every 50 ms."""
    site, sounds = Site(base), encoded(base)
    ended: dict[str, float] = {}
    staging = base / "staging"
    staging.mkdir()
    with site.daemon():
        for number in range(60):
            for kind in ("wav", "m4a", "flac", "opus", "mka"):
                name = f"closed-{number}.{kind}"
                with (site.inbox / name).open("wb") as file:
                    half = len(sounds[kind]) // 2
                    file.write(sounds[kind][:half])
                    file.flush()
                    time.sleep(0.03)
                    file.write(sounds[kind][half:])
                ended[name] = time.time()
            for way, hidden in (
                ("temporary", site.inbox / f".t{number}"),
                ("outside", staging / f"{number}"),
            ):
                name = f"{way}-{number}.mp3"
                hidden.write_bytes(sounds["mp3"])
                hidden.rename(site.inbox / name)
                ended[name] = time.time()
            time.sleep(0.05)
        wait_for(lambda: len(site.queued_at()) >= len(ended), 60)
        queued = site.queued_at()
    rows: Rows = []
    for prefix, what in (("closed", "proven containers"), ("temporary", "renamed"), ("outside", "moved in")):
        took = sorted(queued[name] - at for name, at in ended.items() if name.startswith(prefix))
        p50, p99 = statistics.median(took), took[min(len(took) - 1, round(0.99 * len(took)))]
        rows.append(
            (
                f"close to queued, {what} ({len(took)})",
                f"p50 {p50:.2f} p99 {p99:.2f} s",
                "<= 0.6 s",
                p99 <= 0.6,
            )
        )
    return rows


# -- writers ------------------------------------------------------------------------------------------------


def _paused(path: Path, data: bytes, pieces: int, pause_s: float, *, reopen: bool) -> None:
    step = len(data) // pieces + 1
    if reopen:
        for at in range(0, len(data), step):
            with path.open("ab") as file:
                file.write(data[at : at + step])
            if at + step < len(data):
                time.sleep(pause_s)
        return
    with path.open("wb", buffering=0) as file:
        for at in range(0, len(data), step):
            file.write(data[at : at + step])
            if at + step < len(data):
                time.sleep(pause_s)


def held_open(path: Path, data: bytes) -> None:
    _paused(path, data, 4, 3.0, reopen=False)


def reopened(path: Path, data: bytes) -> None:
    _paused(path, data, 4, SETTLE_S - 1.0, reopen=True)


def slow_copy(path: Path, data: bytes) -> None:
    _paused(path, data, 60, 0.2, reopen=False)


def allocated(path: Path, data: bytes) -> None:
    with path.open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, len(data))
        for at in range(0, len(data), len(data) // 4 + 1):
            time.sleep(3.0)
            os.pwrite(file.fileno(), data[at : at + len(data) // 4 + 1], at)


def mapped(path: Path, data: bytes) -> None:
    with path.open("w+b") as file:
        file.truncate(len(data))
        area = mmap.mmap(file.fileno(), len(data))
    step = len(data) // 4 + 1
    for at in range(0, len(data), step):
        time.sleep(3.0)
        area[at : min(at + step, len(data))] = data[at : at + step]
    area.close()


def renamed(path: Path, data: bytes) -> None:
    hidden = path.with_name(path.name + ".part")
    _paused(hidden, data, 4, 2.0, reopen=False)
    hidden.rename(path)


def rsync(path: Path, data: bytes) -> None:
    """The real one, slowed down, where it is installed; else what it does."""
    if shutil.which("rsync") is None:
        hidden = path.with_name(f".{path.name}.Xy12zA")
        _paused(hidden, data, 4, 2.0, reopen=False)
        hidden.rename(path)
        return
    with tempfile.NamedTemporaryFile() as source:
        source.write(data)
        source.flush()
        subprocess.run(["rsync", f"--bwlimit={max(1, len(data) // 8192)}", source.name, path], check=True)


def torrent(path: Path, data: bytes, *, reopen: bool, zeros: bool = False) -> None:
    """Set the length aside, then fill in pieces of 64 KiB in random order, the last one first."""
    pieces = list(range(0, len(data), 65536))
    order = [pieces[-1], *random.Random(3).sample(pieces[:-1], len(pieces) - 1)]
    with path.open("wb", buffering=0) as file:
        if zeros:
            file.write(bytes(len(data)))
        else:
            os.posix_fallocate(file.fileno(), 0, len(data))
        if not reopen:
            for at in order:
                os.pwrite(file.fileno(), data[at : at + 65536], at)
                time.sleep(10.0 / len(order))
            return
    for at in order:
        with path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), data[at : at + 65536], at)
        time.sleep(10.0 / len(order))


def torrent_open(path: Path, data: bytes) -> None:
    torrent(path, data, reopen=False)


def torrent_reopened(path: Path, data: bytes) -> None:
    torrent(path, data, reopen=True)


def torrent_zeros(path: Path, data: bytes) -> None:
    torrent(path, data, reopen=True, zeros=True)


WRITERS: tuple[Callable[[Path, bytes], None], ...] = (
    held_open, reopened, slow_copy, allocated, mapped, renamed, rsync,
    torrent_open, torrent_reopened, torrent_zeros,
)  # fmt: skip


def rewriter(path: Path, data: bytes) -> None:
    """A WAV recorder that brings its header up to date and closes the file at each pause: undecidable."""
    for number in range(1, 5):
        sound = data[44 : 44 + number * (len(data) - 44) // 4]
        with path.open("wb") as file:
            file.write(data[:4] + (36 + len(sound)).to_bytes(4, "little") + data[8:40])
            file.write(len(sound).to_bytes(4, "little") + sound)
        if number < 4:
            time.sleep(2.0)


def writers(base: Path) -> Rows:
    """Every writer with every container, all at once; each must be queued once, as it is in the end."""
    site, sounds = Site(base), encoded(base)
    ended: dict[str, float] = {}
    with site.daemon():
        spawn = multiprocessing.get_context("fork")
        running = {}
        for writer in (*WRITERS, rewriter):
            for kind in ("wav",) if writer is rewriter else ("wav", "m4a", "flac", "mp3"):
                name = f"{writer.__name__}.{kind}"
                running[name] = spawn.Process(target=writer, args=(site.inbox / name, sounds[kind]))
                running[name].start()
        while running:
            for name, process in list(running.items()):
                if not process.is_alive():
                    ended[name] = time.time()
                    del running[name]
            time.sleep(0.01)
        wait_for(lambda: set(ended) <= set(site.queued_at()), 60)
        time.sleep(SETTLE_S + 1)  # what was taken early is noticed, and taken once more
        jobs = site.jobs()
    whole = {kind: hashlib.sha256(data).hexdigest() for kind, data in sounds.items()}
    counted = Counter(name for name, _, _ in jobs)
    taken = {name: [sha for rel, sha, _ in jobs if rel == name] for name in ended}
    wrong = sorted(
        name
        for name, hashes in taken.items()
        if not name.startswith("rewriter") and hashes != [whole[name.rpartition(".")[2]]]
    )
    times = counted["rewriter.wav"]
    return [
        (
            f"writers x containers ({len(ended) - 1})",
            f"{len(wrong)} taken early {' '.join(wrong)}",
            "0",
            not wrong,
        ),
        ("WAV header rewriter (undecidable)", f"taken {times} times", "", True),
    ]


# -- many at once -------------------------------------------------------------------------------------------


def _content(number: int) -> bytes:
    return b"ID3" + number.to_bytes(8, "big") * 64


def _create(folder: Path, numbers: range) -> None:
    for number in numbers:
        (folder / f"{number}.mp3").write_bytes(_content(number))


def _copied(inbox: Path, files: int) -> None:
    staging = inbox.parent / "copies"
    staging.mkdir()
    _create(staging, range(files))
    target = inbox / "copied"
    shutil.copytree(staging, target)


def _moved(inbox: Path, files: int) -> None:
    staging = inbox.parent / "moved"
    staging.mkdir()
    _create(staging, range(files, 2 * files))
    staging.rename(inbox / "moved")


def _created(inbox: Path, files: int) -> None:
    folder = inbox / "created"
    folder.mkdir()
    spawn = multiprocessing.get_context("fork")
    share = files // 8
    makers = [
        spawn.Process(
            target=_create, args=(folder, range(2 * files + n * share, 2 * files + (n + 1) * share))
        )
        for n in range(8)
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()


def _filled(inbox: Path, files: int) -> None:
    for start in range(3 * files, 4 * files, 20):
        folder = inbox / "filled" / str(start % 10) / str(start)
        folder.mkdir(parents=True)
        _create(folder, range(start, start + 20))


def storm(base: Path, files: int) -> Rows:
    """Files dropped at once in four ways; each queued once."""
    site, rows = Site(base), Rows()
    with site.daemon() as process:
        before = 0
        peak = 0.0
        for way in (_copied, _moved, _created, _filled):
            way(site.inbox, files)
            ended = time.time()
            end = time.monotonic() + 120
            while site.count() < before + files and time.monotonic() < end:
                peak = max(peak, process.memory_info().rss / 2**20)
                time.sleep(0.1)
            took_s = time.time() - ended
            jobs = Counter(name for name, _, _ in site.jobs())
            new = sum(1 for name in jobs if name.startswith(way.__name__[1:]))
            twice = sum(1 for count in jobs.values() if count > 1)
            good = new == files and not twice and took_s <= 30
            rows.append(
                (
                    f"{files} files {way.__name__[1:]}",
                    f"{took_s:.1f} s, {files - new} missed, {twice} twice",
                    "30 s, 0, 0",
                    good,
                )
            )
            before += files
        lost = len(site.events("inbox.overflow"))
        rows.append(("RSS at the most", f"{peak:.0f} MB ({lost} overflows)", "", True))
    return rows


def mkdir(base: Path) -> Rows:
    """A folder made and a file written into it at once, 500 times."""
    site = Site(base)
    written: dict[str, float] = {}
    with site.daemon():
        for number in range(500):
            folder = site.inbox / f"d{number}" / "e"
            folder.mkdir(parents=True)
            (folder / "talk.mp3").write_bytes(_content(number))
            written[f"d{number}/e/talk.mp3"] = time.time()
        with contextlib.suppress(SystemExit):
            wait_for(lambda: len(site.events("file.seen")) >= 500, 10)
        seen = {event["file"]: seconds(event) for event in reversed(site.events("file.seen"))}
    late = [name for name, at in written.items() if name not in seen or seen[name] - at > 2]
    slowest = max((seen[name] - at for name, at in written.items() if name in seen), default=0.0)
    return [
        (
            "500 x mkdir and write",
            f"{len(late)} missed or late, slowest {slowest:.2f} s",
            "0 in 2 s",
            not late,
        )
    ]


# -- a hundred thousand -------------------------------------------------------------------------------------


def _many(inbox: Path, files: int) -> None:
    for start in range(0, files, 100):
        folder = inbox / f"{start // 10_000}" / f"{start}"
        folder.mkdir(parents=True)
        for number in range(start, start + 100):
            (folder / f"{number}.mp3").write_bytes(number.to_bytes(8, "big"))


def restart(base: Path, files: int) -> Rows:
    """A start over files that are all known."""
    site = Site(base)
    with site.daemon():  # the first start of an empty inbox
        pass
    _many(site.inbox, files)
    _remember(site)
    runs = []
    for _ in range(3):
        began = time.time()
        with site.daemon() as process:
            ready_s = seconds(site.events("daemon.ready")[0]) - began
            wait_for(lambda: _reconciled(site), 60, 0.05)
            reconciled_s = time.time() - began
            time.sleep(3)
            cpu, start = sum(process.cpu_times()[:2]), time.monotonic()
            time.sleep(10)
            idle = 100 * (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - start)
            rss = process.memory_info().rss / 2**20
            runs.append((ready_s, reconciled_s, rss, idle))
    ready_s, reconciled_s, rss, idle = (statistics.median(column) for column in zip(*runs, strict=True))
    return [
        (f"ready over {files} known", f"{ready_s:.2f} s", "<= 1 s", ready_s <= 1.0),
        ("reconciled", f"{reconciled_s:.2f} s", "<= 3 s", reconciled_s <= 3.0),
        ("RSS", f"{rss:.0f} MB", "<= 150 MB", rss <= 150),
        ("idle CPU", f"{idle:.2f} %", "<= 0.5 %", idle <= 0.5),
    ]


def _remember(site: Site) -> None:
    """Let the house know all files, as if it had done them."""
    root = os.fsencode(site.inbox)
    with contextlib.closing(sqlite3.connect(site.state / "tnfd.sqlite3")) as db, db:
        for folder, _, names in os.walk(root):
            for name in names:
                _remember_one(db, site, root, os.path.join(folder, name))


def _remember_one(db: sqlite3.Connection, site: Site, root: bytes, path: bytes) -> None:
    st = os.stat(path)
    stat = st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns
    rel = path[len(root) + 1 :]
    db.execute("INSERT OR REPLACE INTO sight VALUES (?, ?, ?, ?, ?, ?, ?)", (root, rel, *stat))
    db.execute(
        "INSERT INTO job (id, scope, inbox, root, rel, path, dev, ino, size_bytes, mtime_ns, ctime_ns,"
        " sha256, settings, profile, engine, state, state_since, seen_at, updated_at, status_revision)"
        " VALUES (?, ?, 'in', ?, ?, ?, ?, ?, ?, ?, ?, ?, '{}', 'p', 'local', 'done', 0, 0, 0, 1)",
        (f"{st.st_ino:026d}", f"inbox:{site.inbox}", root, rel, path, *stat, f"{st.st_ino:064x}"),
    )


def _reconciled(site: Site) -> bool:
    status = json.loads(site.tnfd("status", "--json") or "{}")
    return bool(status.get("inboxes")) and status["inboxes"][0]["state"] == "watching"


def unknown(base: Path, files: int) -> Rows:
    """A first start over files of which nothing is known; the first of them is a recording."""
    with api_server(base, 0.2, 0.0) as (url, _):
        site = Site(base, url)
        _many(site.inbox, files)
        make_audio(site.inbox / "0" / "0" / "talk.wav", 3, 5)
        long_ago = time.time() - 3600
        os.utime(site.inbox / "0" / "0" / "talk.wav", (long_ago, long_ago))
        began = time.time()
        with site.daemon() as process:
            told: list[int] = []
            first = 0.0
            peak = 0.0
            end = time.monotonic() + 60
            while time.monotonic() < end and not (first and len(told) > 3):
                peak = max(peak, process.memory_info().rss / 2**20)
                if not first and site.events("job.finished"):
                    first = time.time() - began
                elif not first and site.events("job.failed"):
                    first = time.time() - began  # the others are no audio; that is a result, too
                status = json.loads(site.tnfd("status", "--json") or "{}")
                if status.get("inboxes"):
                    told.append(int(status["inboxes"][0].get("walked", 0)))
            walking = told and told[-1] < files
    return [
        (
            "first result",
            f"{first:.1f} s{', during the walk' if walking else ''}",
            "seconds",
            0 < first <= 10,
        ),
        ("progress told", " ".join(map(str, told[:4])), "rises", len(set(told)) > 1 or not walking),
        ("RSS meanwhile", f"{peak:.0f} MB", "", True),
    ]


def main() -> None:
    """Run and print; exit 1 if a figure is missed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("parts", nargs="*", metavar="PART", help=" ".join(PARTS))
    options.add_argument("--files", type=int, default=10_000)
    options.add_argument("--known", type=int, default=100_000)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    if strange := set(given.parts) - set(PARTS):
        options.error(f"no such part: {' '.join(sorted(strange))}")
    run: dict[str, Callable[[Path], Rows]] = {
        "latency": latency,
        "writers": writers,
        "storm": lambda base: storm(base, given.files),
        "mkdir": mkdir,
        "restart": lambda base: restart(base, given.known),
        "unknown": lambda base: unknown(base, given.known),
    }
    results: dict[str, list[tuple[str, str, str, bool]]] = {}
    for part in given.parts or PARTS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="tnfd-bench-") as name:
            results[part] = run[part](Path(name))
        for what, value, target, good in results[part]:
            print(f"{'ok ' if good else 'NOT'}  {what:<42} {value:>40}  {target}", flush=True)
        print(f"     ({part}: {time.monotonic() - began:.0f} s)", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(0 if all(row[3] for rows in results.values() for row in rows) else 1)


if __name__ == "__main__":
    main()
