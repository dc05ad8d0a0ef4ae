"""The crash machine: one world of recordings whose daemons and batches are killed again and again.

A world drops recordings (some of them copies), starts the daemon or a batch, kills it with SIGKILL at a named
step or at a moment that chance chose, and looks each time at what lies there. At its end everything must have
arrived, once, as it should.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.e2e.daemon import FINAL, REPOSITORY, Daemon, Site, read_status, sha256, tone, until
from tnfd.testing.api_server import ApiServer

After = Literal["keep", "move", "delete", "across"]
SLOTS = 2
FORMATS = ("txt", "json")
LENGTHS_S = (0.5, 0.75, 1.0, 1.25)
_ARMED_S = 20.0  # an armed process that has not come by its step by then is killed where it stands
_RESTING_S = 0.4  # ... or when it has nothing left to do for this long


def all_points() -> frozenset[str]:
    """Every step that the code names."""
    found: set[str] = set()
    for path in (REPOSITORY / "tnfd").rglob("*.py"):
        found.update(re.findall(r'\breach\("([a-z_.]+)"\)', path.read_text(encoding="utf-8")))
    return frozenset(found)


@dataclass(slots=True)
class Tally:
    """What happened over all worlds."""

    kills: int = 0
    by_step: Counter[str] = field(default_factory=Counter)
    at_random: Counter[str] = field(default_factory=Counter)
    contents: int = 0
    files: int = 0
    requests: int = 0
    lost: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({sum(self.by_step.values())} at {len(self.by_step)} steps,"
            f" {sum(self.at_random.values())} at random moments: {dict(self.at_random)});"
            f" {self.files} files, {self.contents} contents, {self.requests} requests,"
            f" {self.lost} of them in flight at a kill"
        )


class World:
    """One site that is tortured; ``chance`` decides everything: a seed repeats it (but for timing)."""

    def __init__(self, base: Path, server: ApiServer, seed: int, after: After, tally: Tally) -> None:
        self._chance = random.Random(seed)
        self._server = server
        self._after = after
        self._tally = tally
        self.site = Site(base, server.url)
        self.site.configure(
            inbox={"formats": list(FORMATS), "after": "move" if after == "across" else after},
            engine={"max_concurrency": SLOTS},
        )
        self.sources: dict[Path, tuple[str, float]] = {}  # path -> sha256, seconds
        self._made: dict[str, tuple[float, int]] = {}  # sha256 -> seconds, seed
        self._lost = 0
        if after == "across":
            done = self.site.inbox / "done"
            done.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "x", done], check=True)  # noqa: S607  where the system has it

    def close(self) -> None:
        if self._after == "across":
            subprocess.run(["umount", "-l", self.site.inbox / "done"], check=False)  # noqa: S607
        shutil.rmtree(self.site.base)

    # -- dropping ---------------------------------------------------------------------------------------

    def drop(self) -> None:
        """Put in one more recording: new, or a copy of one that is known."""
        number = len(self.sources)
        name = f"{'deep/' * (number % 3 == 2)}{number}.wav"
        known = list(self.sources.values())
        seconds, seed = self._chance.choice(LENGTHS_S), self._chance.randrange(10**9)
        if known and self._chance.random() < 0.25:
            digest, _ = self._chance.choice(known)
            seconds, seed = self._made[digest]
        path = self.site.drop(name, seconds, seed=seed)
        # In "move" it may be gone already; equal arguments give equal bytes.
        digest = sha256(tone(self.site.base / "twin.wav", seconds, seed))
        self._made[digest] = (seconds, seed)
        self.sources[path] = (digest, seconds)

    # -- killing ----------------------------------------------------------------------------------------

    async def kill_once(self, step: str | None) -> None:
        """Start a daemon or a batch, and see it killed: at ``step`` or, None, at any moment."""
        for _ in range(self._chance.randint(1, 2)):
            self.drop()
        batch = self._chance.random() < 0.3 or step == "batch.taken"
        if step is not None and step.startswith(("daemon.", "status.", "job.finished", "intake.")):
            batch = False
        count = self._chance.choice((1, 1, 2, 3, 5)) if step not in ("daemon.drained",) else 1
        env = {} if step is None else {"TNFD_TEST_KILL_AT": f"{step}:{count}"}
        if batch:
            code = await self._batch(env, step)
        else:
            async with self.site.daemon(env=env, ready=False, sound=False) as daemon:
                code = await self._daemon(daemon, step)
                assert not daemon.noise, daemon.noise
        if code == -signal.SIGKILL:
            self._tally.kills += 1
        await self._look("batch" if batch else "daemon")

    async def _daemon(self, daemon: Daemon, step: str | None) -> int:
        if step is None:
            return await self._at_random(daemon.ended(), daemon.pid, "daemon")
        if step == "daemon.drained":
            await daemon.event("daemon.ready")
            await asyncio.sleep(self._chance.uniform(0, 0.3))
            daemon.send(signal.SIGTERM)
        return await self._at_step(daemon.ended(_ARMED_S + 30), daemon.pid, step, "daemon")

    async def _batch(self, env: dict[str, str], step: str | None) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tnfd", "batch", self.site.inbox, "--yes", "--config", self.site.config,
            env=self.site.environ(env), cwd=REPOSITORY, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

        async def ended() -> int:
            _, err = await process.communicate()
            assert b"Traceback" not in err, err.decode()
            return process.returncode or 0

        if step is None:
            return await self._at_random(ended(), process.pid, "batch")
        return await self._at_step(ended(), process.pid, step, "batch")

    async def _at_random(self, ended: Coroutine[Any, Any, int], pid: int, what: str) -> int:
        """Kill at a moment that nobody chose, if it has not ended by itself (a batch does)."""
        waiting = asyncio.ensure_future(ended)
        await asyncio.wait({waiting}, timeout=self._chance.uniform(0.1, 1.6))
        return await self._put_down(waiting, pid, what)

    async def _at_step(self, ended: Coroutine[Any, Any, int], pid: int, step: str, what: str) -> int:
        waiting = asyncio.ensure_future(ended)
        loop = asyncio.get_running_loop()
        limit, rests = loop.time() + _ARMED_S, 0.0
        while not waiting.done() and loop.time() < limit:
            await asyncio.wait({waiting}, timeout=0.1)
            rests = rests + 0.1 if self._arrived() else 0.0
            if rests > _RESTING_S:
                break
        if waiting.done() and (code := await waiting) == -signal.SIGKILL:
            self._tally.by_step[step] += 1
            return code
        return await self._put_down(waiting, pid, what)

    async def _put_down(self, waiting: asyncio.Future[int], pid: int, what: str) -> int:
        if not waiting.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        code = await waiting
        if code == -signal.SIGKILL:
            self._tally.at_random[what] += 1
        return code

    # -- looking ----------------------------------------------------------------------------------------

    async def _look(self, what: str) -> None:
        """After every end: the database is sound, no reader sees half a file, little was in flight."""
        await asyncio.sleep(0.02)  # what the dead process had sent reaches the server
        await until(
            lambda: all(one.outcome != "open" for one in self._server.requests), "the server is at rest"
        )
        if (self.site.state / "tnfd.sqlite3").exists():
            assert self.site.rows("PRAGMA quick_check") == [("ok",)]
        lost = len(self._server.requests) - self.site.stored_answers()
        assert lost - self._lost <= SLOTS, f"{what}: {lost - self._lost} answers lost at one kill"
        self._lost = lost
        for path in self.site.inbox.rglob("*"):
            if path.name.startswith("."):
                continue
            if path.suffix == ".txt":
                assert re.fullmatch(r"words of [0-9a-f]{8}\n", path.read_text()), path
            elif path.name.endswith(".status.json"):
                status = read_status(path)
                if status is not None and status["state"] in ("done", "duplicate") and self._after == "keep":
                    for output in status["outputs"].values():
                        assert sha256(path.parent / output["name"]) == output["sha256"], path
            elif path.suffix == ".json":
                assert json.loads(path.read_bytes())["schema"] == "tnfd.transcript/1"

    def home(self, source: Path) -> Path:
        """Where a recording is in the end."""
        if self._after in ("move", "across"):
            return self.site.inbox / "done" / source.relative_to(self.site.inbox)
        return source

    def _arrived(self) -> bool:
        for source in self.sources:
            home = self.home(source)
            status = read_status(home.with_name(home.name + ".status.json"))
            if status is None or status["state"] not in FINAL:
                return False
            if home.exists() is (self._after == "delete") or (home != source and source.exists()):
                return False
        return True

    def _errands_over(self) -> bool:
        return self.site.rows("SELECT * FROM errand") == []

    async def arrive(self) -> None:
        """Let it come to its end in peace, and see that all is as it should be."""
        async with self.site.daemon() as daemon:
            await daemon.until(self._arrived, "everything has arrived", 60.0)
            # Its row goes after the file; asked to stop between the two, the next start would do that.
            await daemon.until(self._errands_over, "no recording is on its way", 60.0)
            assert await daemon.stop() == 0
        self.assert_whole()
        self.assert_records()
        contents = len({digest for digest, _ in self.sources.values()})
        self._tally.contents += contents
        self._tally.files += len(self.sources)
        self._tally.requests += len(self._server.requests)
        self._tally.lost += self._lost
        assert len(self._server.requests) <= contents + self._lost, "something was paid twice"

    def assert_whole(self) -> None:
        lengths = {f"words of {one.sha256[:8]}": one.audio_s for one in self._server.requests if one.paid}
        expected: set[Path] = set()
        texts: dict[str, set[str]] = {}
        originals: Counter[str] = Counter()
        for source, (digest, seconds) in self.sources.items():
            home = self.home(source)
            status_path = home.with_name(home.name + ".status.json")
            status = read_status(status_path)
            assert status is not None, source
            assert status["state"] == ("duplicate" if status["duplicate_of"] else "done"), status
            originals[digest] += status["state"] == "done"
            assert status["source"]["sha256"] == digest
            assert set(status["outputs"]) == set(FORMATS)
            found = {name: home.parent / output["name"] for name, output in status["outputs"].items()}
            for name, path in found.items():
                assert sha256(path) == status["outputs"][name]["sha256"]
            text = found["txt"].read_text().strip()
            assert lengths[text] == pytest.approx(seconds, abs=0.05), f"{source} has another one's words"
            texts.setdefault(digest, set()).add(text)
            transcript = json.loads(found["json"].read_bytes())
            assert (transcript["text"], transcript["source"]["sha256"]) == (text, digest)
            expected |= {status_path, *found.values()}
            if self._after != "delete":
                assert sha256(home) == digest
                expected.add(home)
        assert {
            path for path in self.site.inbox.rglob("*") if path.is_file()
        } == expected  # no litter, nothing twice
        assert all(len(one) == 1 for one in texts.values()), "copies differ"
        assert len({next(iter(one)) for one in texts.values()}) == len(texts)
        assert set(originals.values()) == {1}, originals

    def assert_records(self) -> None:
        assert self.site.rows("PRAGMA integrity_check") == [("ok",)]
        assert self.site.rows("PRAGMA foreign_key_check") == []
        assert self.site.rows("SELECT count(*) FROM job") == [(len(self.sources),)]
        for table in ("reservation", "process", "errand"):
            assert self.site.rows(f"SELECT * FROM {table}") == [], table  # noqa: S608
        ((booked,),) = self.site.rows("SELECT coalesce(sum(requests), 0) FROM spend")
        assert len(self._server.requests) <= booked  # whatever may have been paid is in the books
        assert list((self.site.state / "scratch").iterdir()) == []
        assert list((self.site.state / "locks").iterdir()) == []

    async def forgetful(self) -> None:
        """The state folder is lost; killed while it adopts what lies there, it still pays nothing again."""
        paid = len(self._server.requests)
        shutil.rmtree(self.site.state)
        async with self.site.daemon(
            env={"TNFD_TEST_KILL_AT": "adopt.reserved"}, ready=False, sound=False
        ) as daemon:
            assert await daemon.ended() == -signal.SIGKILL, daemon.log()
        self._tally.kills += 1
        self._tally.by_step["adopt.reserved"] += 1
        async with self.site.daemon() as daemon:
            await daemon.event("daemon.ready")
            await daemon.until(self._all_known, "all are known again")
        assert len(self._server.requests) == paid

    def _all_known(self) -> bool:
        query = "SELECT count(*) FROM job WHERE state IN ('done', 'duplicate')"
        return self.site.rows(query) == [(len(self.sources),)]


async def torture(base: Path, seed: int, after: After, steps: list[str | None], tally: Tally) -> None:
    """One world, killed once for each of ``steps``."""
    async with ApiServer(base_s=0.05) as server:
        world = World(base, server, seed, after, tally)
        try:
            for step in steps:
                await world.kill_once(step)
            await world.arrive()
            if after == "keep":
                await world.forgetful()
        except BaseException as error:
            error.add_note(f"world: seed {seed}, after {after}, steps {steps}")
            raise
        finally:
            world.close()


def can_mount(folder: Path) -> bool:
    """Whether a file system of its own can be mounted here."""
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "x", folder], check=False).returncode:  # noqa: S607
        return False
    subprocess.run(["umount", folder], check=True)  # noqa: S607
    return True
