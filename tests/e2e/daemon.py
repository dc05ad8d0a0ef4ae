"""Drives the real `tnfd` process: starts it, reads its log, waits for facts, signals, collects its end.

All waiting of the end-to-end tests is here, bounded, and by condition. A `Site` is one user's world: a home,
a configuration, inboxes, a state folder.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import errno
import hashlib
import json
import os
import random
import signal
import sqlite3
import sys
import wave
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jsonschema
import psutil
import tomli_w

from tnfd.schemas import schema
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import SERVER_ERROR, Status
from tnfd.testing.records import Request

T = TypeVar("T")
Event = dict[str, Any]

REPOSITORY = Path(__file__, "../../..").resolve()
PATIENCE_S = 30.0
FINAL = ("done", "partial", "failed", "duplicate", "cancelled", "vanished")
RATE = 16_000
_STEP_S = 0.02
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2  # linux/prctl.h, linux/capability.h
_BUGS = frozenset({"service.crashed", "job.bug"})


async def until(fact: Callable[[], T | None], what: str = "", timeout_s: float = PATIENCE_S) -> T:
    """Return what `fact()` returns once that is true; AssertionError if it does not become so in time."""
    limit = asyncio.get_running_loop().time() + timeout_s
    while not (found := fact()):
        if asyncio.get_running_loop().time() > limit:
            raise AssertionError(f"not within {timeout_s:g} s: {what or fact}")
        await asyncio.sleep(_STEP_S)
    return found


# -- recordings -------------------------------------------------------------------------------------------


def tone(path: Path, seconds: float = 0.5, seed: int = 0) -> Path:
    """Write a WAV; equal arguments give equal bytes."""
    chance = random.Random(seed)
    period = [chance.randint(-4000, 4000) for _ in range(chance.randint(80, 400))]
    count = int(seconds * RATE)
    samples = array.array("h", (period * (count // len(period) + 1))[:count])
    with path.open("wb") as raw, wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def of_another_machine(talk: Path, updated_at: str = "2026-11-25T00:00:00Z") -> Path:
    """The status file that a tnfd on another machine, at work on the same file, has written."""
    status: dict[str, object] = {
        "schema": "tnfd.status/1", "job": "01JZZZZZZZZZZZZZZZZZZZZZZZ", "state": "running",
        "instance": "nas-9",
        "profile": "0" * 16, "updated_at": updated_at,
        "source": {
            "name": talk.name, "size_bytes": talk.stat().st_size, "modified_at": None, "sha256": sha256(talk),
        },
        "media": None, "engine": None, "progress": {"chunks_done": 0, "chunks_total": 0}, "failures": 0,
        "waiting": None, "error": None, "outputs": {}, "timestamps": None, "languages": [], "speakers": "off",
        "gaps": [], "flags": [], "duplicate_of": None,
        "usage": {"audio_s": 0, "requests": 0, "uploaded_bytes": 0, "cost_usd": 0},
        "timing": {"seen_at": None, "settled_at": None, "started_at": None, "finished_at": None},
    }  # fmt: skip
    path = talk.with_name(f"{talk.name}.status.json")
    path.write_text(json.dumps(status))
    return path


# -- one user's world -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Site:
    """A home with a configuration, an inbox and a state folder below `base`."""

    def __init__(self, base: Path, url: str = "") -> None:
        self.base = base
        self.url = url
        self.inbox = base / "in"
        self.state = base / "state"
        self.config = base / "tnfd.toml"
        self.home = base / "home"
        self._staging = base / "staging"
        for folder in (self.inbox, self.home, self._staging):
            folder.mkdir(parents=True)
        self._drops = 0
        self.configure()

    def configure(
        self,
        *,
        daemon: Mapping[str, Any] | None = None,
        inbox: Mapping[str, Any] | None = None,
        more_inboxes: Iterable[Mapping[str, Any]] = (),
        engine: Mapping[str, Any] | None = None,
        engines: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the configuration; what is not named is quick and small."""
        quick = {"settle_s": 0.3}
        ours = {"type": "openai", "model": "whisper-1", "base_url": self.url, "max_concurrency": 4}
        whole = {
            "daemon": {
                "state_dir": str(self.state), "log_format": "json", "backoff_s": [0.2, 0.4], **(daemon or {})
            },
            "inbox": [
                {"path": str(self.inbox), **quick, **(inbox or {})},
                *({**quick, **one} for one in more_inboxes),
            ],
            "engines": {"local": {**ours, **(engine or {})}} if engines is None else dict(engines),
        }  # fmt: skip
        self.config.write_text(tomli_w.dumps(whole))

    def drop(self, name: str, seconds: float = 0.5, seed: int = 0, *, into: Path | None = None) -> Path:
        """Put a recording into an inbox in one step, as most programs do."""
        self._drops += 1
        staged = tone(self._staging / f"{self._drops}.wav", seconds, seed)
        return self.put(staged, name, into=into)

    def poison(self, server: ApiServer, longer_than_s: float = 0.9) -> list[Path]:
        """The server fails on longer recordings, and on them alone; the others, as they come, in the list.

        Before each refusal another file passes, however slow the machine: a new one is dropped.
        """
        healthy: list[Path] = []

        async def choose(request: Request) -> Status | None:
            if request.audio_s < longer_than_s:
                return None
            passed = server.paid
            healthy.append(self.drop(f"healthy{len(healthy)}.wav", seed=1000 + len(healthy)))
            await server.until(lambda now: now.paid > passed)
            return SERVER_ERROR

        server.choose = choose
        return healthy

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database answers at this moment."""
        with contextlib.closing(sqlite3.connect(self.state / "tnfd.sqlite3")) as database:
            return database.execute(query).fetchall()

    def stored_answers(self) -> int:
        """Answers of engines that no crash can lose any more."""
        tables = (self.state / "tnfd.sqlite3").exists() and self.rows("SELECT name FROM sqlite_master")
        if not tables or ("chunk",) not in tables:
            return 0
        return int(self.rows("SELECT count(*) FROM chunk WHERE result IS NOT NULL")[0][0])

    def put(self, staged: Path, name: str, *, into: Path | None = None) -> Path:
        """Move a file into an inbox."""
        target = (into or self.inbox) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(target)
        return target

    def stage(self, data: bytes = b"") -> Path:
        """A file outside of every inbox."""
        self._drops += 1
        path = self._staging / f"{self._drops}"
        path.write_bytes(data)
        return path

    def environ(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """A clean environment."""
        kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        return {
            **kept,
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONWARNINGS": "default",  # they appear in the log as lines that are no events
            **(more or {}),
        }

    def daemon(self, **options: Any) -> contextlib.AbstractAsyncContextManager[Daemon]:
        """Run the daemon; see `running`."""
        return running(self, **options)

    async def tnfd(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Ran:
        """Run a command to its end, with this site's configuration."""
        return await command(*arguments, "--config", self.config, env=self.environ(env))

    def status(self, source: Path) -> dict[str, Any] | None:
        """What a recording's status file says, checked against its schema; None while there is none."""
        return read_status(source.with_name(source.name + ".status.json"))

    def state_of(self, source: Path) -> str:
        status = self.status(source)
        return "" if status is None else str(status["state"])

    def litter(self) -> list[str]:
        """Temporary files that lie around."""
        return [str(path) for path in self.base.rglob(".tnfd-*")]


def read_status(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    jsonschema.Draft202012Validator(schema("status-1")).validate(found)
    return found


async def command(*arguments: str | Path, env: Mapping[str, str]) -> Ran:
    """Run `tnfd` with these arguments to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tnfd", *arguments, env=env, cwd=REPOSITORY,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        raise AssertionError(f"tnfd {arguments} does not end") from None
    return Ran(process.returncode or 0, out.decode(), err.decode())


# -- the daemon -------------------------------------------------------------------------------------------


class Daemon:
    """One `tnfd run` process and what it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.events: list[Event] = []
        self.noise: list[str] = []  # lines that are no events: warnings, tracebacks
        self.family: set[psutil.Process] = set()  # every process that was seen below it

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def read(self) -> None:
        """Collect the log until the process ends."""
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            try:
                event = json.loads(line)
            except ValueError:
                self.noise.append(line.decode("utf-8", "backslashreplace").rstrip())
            else:
                self.events.append(event)

    def named(self, name: str, **fields: Any) -> list[Event]:
        """Events with this name and these fields."""
        return [
            event
            for event in self.events
            if event["event"] == name and all(event.get(key) == value for key, value in fields.items())
        ]

    async def until(
        self,
        fact: Callable[[], T | None],
        what: str = "",
        timeout_s: float = PATIENCE_S,
        *,
        lives: bool = True,
    ) -> T:
        """As `until`, but with the log in the message, and at once if the daemon ends (with `lives`)."""

        def alive_and_fact() -> T | None:
            found = fact()
            assert found or self.alive or not lives, f"the daemon ended with {self._process.returncode}"
            return found

        try:
            return await until(alive_and_fact, what, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from error

    async def event(self, name: str, count: int = 1, timeout_s: float = PATIENCE_S, **fields: Any) -> Event:
        """The `count`-th event with this name and these fields, once it is there."""
        found = await self.until(
            lambda: self.named(name, **fields)[count - 1 :], f"{count} x {name} {fields}", timeout_s
        )
        return found[0]

    async def final(self, site: Site, *sources: Path, timeout_s: float = PATIENCE_S) -> list[str]:
        """The states of these recordings once all are final and their status files say so."""

        def states() -> list[str]:
            found = [site.state_of(source) for source in sources]
            return found if all(state in FINAL for state in found) else []

        return await self.until(states, f"final states of {[path.name for path in sources]}", timeout_s)

    def look_around(self) -> list[psutil.Process]:
        """The processes below it now; remembered for `orphans`."""
        below: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(self.pid).children(recursive=True)
        self.family.update(below)
        return below

    async def orphans(self) -> list[psutil.Process]:
        """Those processes below it that outlived it by more than a moment."""
        with contextlib.suppress(AssertionError):
            await until(lambda: not any(map(_lives, self.family)), timeout_s=5)
        return list(filter(_lives, self.family))

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)  # Process.send_signal() would look for the exit status, and take it

    async def ended(self, timeout_s: float = PATIENCE_S) -> int:
        """The exit code, once it has ended (negative: the signal's number)."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._process.wait()
        except TimeoutError:
            raise AssertionError(f"it does not end\n{self.log()}") from None

    async def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = PATIENCE_S) -> int:
        """Send a signal and return the exit code."""
        self.send(number)
        return await self.ended(timeout_s)

    def hang_up(self) -> None:
        """Stop listening to its log, for good."""
        transport = self._process._transport.get_pipe_transport(2)  # type: ignore[attr-defined]
        transport.close()

    def send_twice(self) -> None:
        """Tell it to stop, and at once."""
        psutil.Process(self.pid).suspend()
        self.send(signal.SIGTERM)
        self.send(signal.SIGINT)  # two of one kind that wait count as one
        psutil.Process(self.pid).resume()

    def freeze(self) -> None:
        """Let it live without doing anything."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def log(self) -> str:
        """The last lines of the log, for messages."""
        lines = [" ".join(f"{key}={value}" for key, value in event.items()) for event in self.events]
        return "\n".join([*lines[-40:], *self.noise[-40:]])

    def assert_sound(self) -> None:
        """Nothing in the log says that tnfd itself has a bug."""
        bugs = [event for event in self.events if event["event"] in _BUGS or event["level"] == "error"]
        assert not bugs, self.log()
        assert not [event for event in self.events if event.get("code") == "internal.bug"], self.log()
        assert not self.noise, "\n".join(self.noise)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)  # those wait for a parent that is not ours
    except psutil.NoSuchProcess:
        return False


@contextlib.asynccontextmanager
async def running(
    site: Site,
    *,
    env: Mapping[str, str] | None = None,
    ready: bool = True,
    sound: bool = True,
    bound: bool = False,
) -> AsyncIterator[Daemon]:
    """Start the daemon; on leaving it is killed if it still runs, and its log is looked at (`sound`).

    `bound`: where the tests run as root, permission bits bind the daemon all the same.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tnfd", "run", "--config", site.config,
        env=site.environ(env), cwd=REPOSITORY, limit=1 << 20, stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE, preexec_fn=_be_bound_by_permissions if bound else None,
    )  # fmt: skip
    daemon = Daemon(process)
    reading = asyncio.create_task(daemon.read())
    try:
        if ready:
            await daemon.event("daemon.ready")
        yield daemon
        if daemon.alive:
            await daemon.stop()
    finally:
        if daemon.alive:
            with contextlib.suppress(ProcessLookupError):
                daemon.send(signal.SIGKILL)
        await process.wait()
        await reading
    if sound:
        daemon.assert_sound()


def _be_bound_by_permissions() -> None:
    """Give up root's right to ignore permission bits; for everybody else there is nothing to give up."""
    if os.geteuid() != 0:
        return
    library = ctypes.CDLL(None, use_errno=True)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if library.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


def permissions_can_bind() -> bool:
    """Whether `running(bound=True)` does what it says on this system."""
    if os.geteuid() != 0:
        return True
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    read = 23  # PR_CAPBSET_READ; dropping needs CAP_SETPCAP (8), which root has unless it was taken away
    return bool(library.prctl(read, 8, 0, 0, 0) == 1) and ctypes.get_errno() != errno.EPERM
