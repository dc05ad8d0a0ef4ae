"""Long recordings from end to end: whole, in order, quick, small, and paid once although killed.

Makes recordings in which every second says its own number (``tnfd.testing.seconds``), ten minutes of them in
noise, and starts a local server that answers what it hears, with times, as whisper-1 does: 2 s and 0.1 s for
each second of audio, requests up to 25 MB and 1400 s. ``tnfd batch`` transcribes them as a whole process,
with 5 requests at once, and the transcript is compared second by second.

    python -m benchmarks.long            # two hours as mp3; the other containers and the kills shorter
    python -m benchmarks.long --full     # everything at two hours, and eight hours as mp3
    python -m benchmarks.long --keep DIR # where the recordings are made, and found again
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from benchmarks.parts import RATE, requests_since
from benchmarks.throughput import Memory
from tnfd.testing.seconds import LEAD_S, sound, word_of

SLOTS = 5
LATENCY_S, PER_AUDIO_S = 2.0, 0.1
MOST_BYTES, LONGEST_S = 26_214_400, 1400.0
NOISY = range(900, 1500)
RESTED_S = 6.0  # files younger than settle_s would be waited for
WANTED_MAKESPAN_S = 168.0  # for two hours
WANTED_MB_AN_HOUR = 11.0
WANTED_PSS_MB = 250.0
WANTED_ERROR_S = 0.2
LATE_S = 2.5  # the sound of the film starts so much later than its picture
SPEECH = Path(__file__).parents[1] / "tests/data/spoken_en.wav"


# -- recordings ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """A container and how its sound is encoded."""

    suffix: str
    codec: str
    options: dict[str, str]
    late_s: float = 0.0
    picture: bool = False


KINDS = {
    "mp3": Kind("mp3", "libmp3lame", {"b": "48000"}),
    "wav": Kind("wav", "pcm_s16le", {}),
    "m4a": Kind("m4a", "aac", {"b": "64000"}),
    "mp4": Kind("mp4", "aac", {"b": "64000"}, late_s=LATE_S, picture=True),
    "opus": Kind("opus", "libopus", {"b": "32000", "compression_level": "2"}),
}


def make(folder: Path, kind: Kind, seconds: int) -> Path:
    """Return the recording, made if it is not there."""
    path = folder / f"{seconds}s.{kind.suffix}"
    if path.exists():
        return path
    hidden = folder / f".{path.name}"
    with av.open(
        str(hidden), "w", format="ogg" if kind.suffix == "opus" else kind.suffix.replace("m4a", "mp4")
    ) as out:
        picture: Any = None
        if kind.picture:
            picture = out.add_stream("mpeg4", rate=1)
            picture.width = picture.height = 32
            picture.pix_fmt = "yuv420p"
        stream: Any = out.add_stream(kind.codec, rate=RATE, options=kind.options)
        stream.layout = "mono"
        for second, pcm in enumerate(sound(range(seconds), noisy=NOISY)):
            if picture is not None:
                image = av.VideoFrame(32, 32, "yuv420p")
                image.pts, image.time_base = second, Fraction(1, 1)
                out.mux(picture.encode(image))
            frame = av.AudioFrame("s16", "mono", RATE)
            frame.planes[0].update(pcm)
            frame.sample_rate = RATE
            frame.pts = round((second + kind.late_s) * RATE)
            frame.time_base = Fraction(1, RATE)
            out.mux(stream.encode(frame))
        for one in filter(None, (picture, stream)):
            out.mux(one.encode(None))
    hidden.rename(path)
    return path


def speech(folder: Path, seconds: int) -> Path:
    """The project's own spoken sample, over and over: what real speech takes on the line."""
    path = folder / f"speech-{seconds}s.wav"
    if not path.exists():
        data = SPEECH.read_bytes()[44:]
        with av.open(str(path), "w") as out:
            stream: Any = out.add_stream("pcm_s16le", rate=RATE)
            stream.layout = "mono"
            whole = (data * (seconds * RATE * 2 // len(data) + 1))[: seconds * RATE * 2]
            for at in range(0, len(whole), RATE * 2):
                frame = av.AudioFrame("s16", "mono", RATE)
                frame.planes[0].update(whole[at : at + RATE * 2])
                frame.sample_rate = RATE
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    return path


# -- one run -------------------------------------------------------------------------------------------


class Site:
    """A folder with one recording, a configuration and a state folder of its own."""

    def __init__(self, folder: Path, name: str, source: Path, url: str) -> None:
        self.folder = folder / name
        self.recording = self.folder / "in" / f"talk{source.suffix}"
        self.state = self.folder / "state"
        self.recording.parent.mkdir(parents=True)
        shutil.copyfile(source, self.recording)
        old = time.time() - 60
        os.utime(self.recording, (old, old))
        self.config = self.folder / "tnfd.toml"
        self.config.write_text(
            f'[daemon]\nstate_dir = "{self.state}"\n[engines.local]\ntype = "openai"\nmodel = "whisper-1"\n'
            f'base_url = "{url}"\nprice_usd_per_minute = 0\n'
        )

    def start(self) -> subprocess.Popen[bytes]:
        """Start ``tnfd batch`` on the recording."""
        given = [str(self.recording), "--config", str(self.config), "--concurrency", str(SLOTS)]
        given += ["--format", "txt,json"]
        environ = {
            key: value for key, value in os.environ.items() if not key.startswith(("TNFD_", "OPENAI_"))
        }
        return subprocess.Popen(
            [sys.executable, "-m", "tnfd", "batch", *given],
            env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def outputs(self) -> dict[str, bytes]:
        """What was written, by name."""
        return {
            path.name: path.read_bytes()
            for path in sorted(self.recording.parent.iterdir())
            if path.suffix in (".txt", ".json") and ".status." not in path.name
        }

    def answered(self) -> int:
        """How many answers the store has."""
        if not (self.state / "tnfd.sqlite3").exists():
            return 0
        with contextlib.closing(sqlite3.connect(self.state / "tnfd.sqlite3")) as database:
            try:
                query = "SELECT count(*) FROM chunk WHERE result IS NOT NULL AND silent = 0"
                return int(database.execute(query).fetchone()[0])
            except sqlite3.OperationalError:
                return 0


@dataclass(frozen=True, slots=True)
class Run:
    """What one whole run took."""

    makespan_s: float
    peak_pss_mb: float
    mb_an_hour: float
    requests: int
    peak: int
    sent_s: float
    first_s: float  # from the start to the first request
    last_s: float  # from the last answer to the end
    slow_s: float  # the most that an answer took longer than its audio


def run(site: Site, log: Path, seconds: int) -> Run:
    """Run it to its end."""
    began = time.monotonic()
    with site.start() as process:
        memory = Memory(process.pid)
        memory.start()
        _, said = process.communicate()
    took_s = time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"benchmark: exit {process.returncode}: {said.decode()[-2000:]}")
    rows = requests_since(log, began)
    return Run(
        took_s, memory.end(), sum(row["file_bytes"] for row in rows) / 1e6 / (seconds / 3600), len(rows),
        most_at_once(rows), sum(row["audio_s"] for row in rows),
        min(row["started_at"] for row in rows) - began,
        began + took_s - max(row["answered_at"] for row in rows),
        max(late_s(row) for row in rows),
    )  # fmt: skip


def counted(url: str) -> int:
    """How many requests the server has seen begin."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats") as answer:  # noqa: S310 (http, our own)
        return int(json.load(answer)["requests"])


def late_s(row: dict[str, Any]) -> float:
    """How much longer an answer took than it should."""
    spent_s: float = row["answered_at"] - row["received_at"]
    return spent_s - LATENCY_S - PER_AUDIO_S * float(row["audio_s"])


def most_at_once(rows: list[dict[str, Any]]) -> int:
    changes = sorted(
        [(row["started_at"], 1) for row in rows]
        + [(row["answered_at"] or row["started_at"], -1) for row in rows]
    )
    level = peak = 0
    for _, by in changes:
        level += by
        peak = max(peak, level)
    return peak


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a transcript compares: words missing, doubled, foreign, out of order; the largest error in time."""

    missing: int
    doubled: int
    foreign: int
    in_order: bool
    error_s: float
    text_equal: bool

    @property
    def fine(self) -> bool:
        """Whether each second is there exactly once, in order, in time."""
        return (
            not (self.missing or self.doubled or self.foreign)
            and self.in_order
            and self.text_equal
            and self.error_s <= WANTED_ERROR_S
        )


def judge(outputs: dict[str, bytes], seconds: int, late_s: float) -> Verdict:
    """Compare the transcripts with what was said."""
    whole = json.loads(outputs["talk.json"])
    said = [word for segment in whole["segments"] for word in segment["words"]]
    words = [word["text"].strip() for word in said]
    expected = {word_of(second): second for second in range(seconds)}
    known = [word for word in words if word in expected]
    errors = [
        abs(word["start_s"] - expected[text] - LEAD_S - late_s)
        for word, text in zip(said, words, strict=True)
        if text in expected
    ]
    error_s = max(errors, default=99.0)
    everything = list(expected)
    return Verdict(
        len(set(everything) - set(words)),
        len(known) - len(set(known)),
        len(words) - len(known),
        known == sorted(known),
        error_s,
        outputs["talk.txt"].decode().split() == everything and whole["text"].split() == everything,
    )


# -- the measurements ----------------------------------------------------------------------------------


@contextlib.contextmanager
def listening_server(folder: Path, per_audio_s: float = PER_AUDIO_S) -> Iterator[tuple[str, Path]]:
    """The local server as a process of its own; its URL and its log."""
    log = folder / "requests.jsonl"
    command = [sys.executable, "-m", "tnfd.testing.api_server", "--listens", "--log", str(log)]
    command += ["--latency", str(LATENCY_S), "--per-audio", str(per_audio_s)]
    command += ["--most-bytes", str(MOST_BYTES), "--longest", str(LONGEST_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip(), log
        finally:
            server.terminate()


def measure(
    folder: Path, audio: Path, name: str, seconds: int, server: tuple[str, Path]
) -> tuple[bool, Site]:
    """Run one recording to its end and say what came out."""
    url, log = server
    kind = KINDS[name]
    source = make(audio, kind, seconds)
    site = Site(folder, f"{name}-{seconds}", source, url)
    time.sleep(RESTED_S)
    found = run(site, log, seconds)
    verdict = judge(site.outputs(), seconds, kind.late_s)
    wanted_s = WANTED_MAKESPAN_S if seconds == 7200 and name == "mp3" else float("inf")
    fine = (
        verdict.fine and found.makespan_s <= wanted_s and found.peak_pss_mb <= WANTED_PSS_MB
        and found.mb_an_hour <= WANTED_MB_AN_HOUR
    )  # fmt: skip
    print(
        f"{'ok ' if fine else 'NOT'} {name:<5} {seconds / 60:>4.0f} min  {found.makespan_s:>7.1f} s "
        f"(first {found.first_s:.1f}, last {found.last_s:.1f}, slow {found.slow_s:.1f})  "
        f"{found.requests:>3} requests, {found.peak} at once  {found.sent_s - seconds:>+6.1f} s sent  "
        f"{found.mb_an_hour:>5.1f} MB/h  {found.peak_pss_mb:>6.1f} MB  missing {verdict.missing} "
        f"doubled {verdict.doubled} foreign {verdict.foreign} "
        f"{'in order' if verdict.in_order and verdict.text_equal else 'OUT OF ORDER'}  "
        f"times within {verdict.error_s:.2f} s",
        flush=True,
    )
    return fine, site


def measure_speech(folder: Path, audio: Path, server: tuple[str, Path], seconds: int) -> bool:
    """What speech takes on the line."""
    url, log = server
    found = run(Site(folder, "speech", speech(audio, seconds), url), log, seconds)
    fine = found.mb_an_hour <= WANTED_MB_AN_HOUR
    print(
        f"{'ok ' if fine else 'NOT'} speech {seconds / 60:.0f} min  {found.mb_an_hour:.1f} MB/h", flush=True
    )
    return fine


def measure_kills(
    folder: Path, audio: Path, server: tuple[str, Path], seconds: int, kills: int, whole: dict[str, bytes]
) -> bool:
    """Kill it again and again at random moments; what comes out must be what an undisturbed run makes."""
    url, _ = server
    site = Site(folder, "kills", make(audio, KINDS["mp3"], seconds), url)
    time.sleep(RESTED_S)
    chance = random.Random(11)
    first = counted(url)
    in_flight = worst = 0
    alone_s = (LATENCY_S + PER_AUDIO_S * 60) * 1.3
    for _ in range(kills):
        before = site.answered()
        sent = counted(url)
        process = site.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.3, alone_s))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        time.sleep(0.3)  # what it had sent has arrived
        lost = counted(url) - sent - (site.answered() - before)
        worst = max(worst, lost)
        in_flight += max(lost, 0)
    with site.start() as process:
        process.communicate()
    requests, pieces = counted(url) - first, site.answered()
    same = site.outputs() == whole
    fine = same and process.returncode == 0 and worst <= SLOTS and requests == pieces + in_flight
    print(
        f"{'ok ' if fine else 'NOT'} {kills} kills in {seconds / 60:.0f} min of audio: {pieces} pieces, "
        f"{requests} requests, {in_flight} of them cut off by a kill (at most {worst} by one); "
        f"transcripts {'identical' if same else 'DIFFERENT'}",
        flush=True,
    )
    return fine


def main() -> None:
    """Run and print; exit 1 if a figure is missed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--full", action="store_true")
    options.add_argument("--only", action="append", choices=[*KINDS, "speech", "kills"])
    options.add_argument("--seconds", type=int, help="of all recordings")
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--keep", type=Path, help="folder for the recordings")
    options.add_argument("--make", action="store_true", help="only make the recordings")
    given = options.parse_args()
    chosen = given.only or [*KINDS, "speech", "kills"]
    long_s = given.seconds or 7200
    short_s = given.seconds or (7200 if given.full else 600)
    with tempfile.TemporaryDirectory(prefix="tnfd-bench-") as name:
        folder = Path(name)
        audio = given.keep or folder / "audio"
        audio.mkdir(parents=True, exist_ok=True)
        lengths = {kind: long_s if kind == "mp3" else short_s for kind in KINDS}
        if given.make:
            for kind, seconds in lengths.items():
                make(audio, KINDS[kind], seconds)
            make(audio, KINDS["mp3"], short_s)
            return
        fine = True
        with listening_server(folder) as server:
            for kind, seconds in lengths.items():
                if kind in chosen:
                    fine &= measure(folder, audio, kind, seconds, server)[0]
            if given.full and "mp3" in chosen:
                fine &= measure(folder, audio, "mp3", 8 * 3600, server)[0]
            if "speech" in chosen:
                fine &= measure_speech(folder, audio, server, 600)
            if "kills" in chosen:
                kind_ok, site = measure(folder / "undisturbed", audio, "mp3", short_s, server)
                fine &= kind_ok
                fine &= measure_kills(folder, audio, server, short_s, given.kills, site.outputs())
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
