"""The long-running way to use the house: watches, works, answers, drains.

Owns the process: its lock, its signals, its services and the order in which they end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import structlog

from tnfd import beacon, faultpoints
from tnfd.clock import SystemClock
from tnfd.config import Config
from tnfd.intake.inbox import InboxIntake
from tnfd.intake.lease import ignore_sigio
from tnfd.model import JobState
from tnfd.pipeline.stopwatch import Stopwatch
from tnfd.ports.clock import Clock
from tnfd.ports.engine import Preparing
from tnfd.ports.queue import LookAgain, Outcome, Retry, Wait
from tnfd.ports.store import Finished
from tnfd.rules.names import for_terminal, printable
from tnfd.rules.status import moment
from tnfd.signals import heard
from tnfd.store.presence import lock_daemon
from tnfd.supervise import Service, Supervisor, dump_tasks
from tnfd.wiring import House, build_intake, build_queue, open_house, prepare_state_dir, scope_of

_log = structlog.get_logger("tnfd.daemon")
_job_log = structlog.get_logger("tnfd.job")

EXIT_INTERRUPTED = 130
_LOOK_S = 0.9  # commands are seen within a second
_STATUS_S = 1.0  # while some job's status file is behind
_AFTER_S = 0.2  # at least, until what was put off is tried again
_BURY_S = 60.0
_LAST_WORD_S = 3.0  # for the status files of what has just ended
_STALE_S = 120.0  # a heart that has not beaten for this long


async def run_daemon(config: Config, environ: Mapping[str, str], clock: Clock | None = None) -> int:
    """Run until a signal says stop; return the exit code.

    Raises:
        AlreadyRunning: another daemon holds the state folder.
        StoreUnusable, TooManyCrashes: see there.
    """
    clock = clock or SystemClock()
    ignore_sigio()
    lock = lock_daemon(prepare_state_dir(config))
    try:
        stopwatch = Stopwatch(clock)
        async with open_house(config, environ, clock, progress=stopwatch) as house:
            return await _Daemon(house, stopwatch).run()
    finally:
        os.close(lock)


class _Daemon:
    def __init__(self, house: House, stopwatch: Stopwatch) -> None:
        self._house = house
        self._stopwatch = stopwatch
        self._clock = house.clock
        self._scopes = tuple(scope_of(inbox) for inbox in house.config.inboxes)
        self._serving = set(self._scopes)  # less those whose folder is lost: their jobs could only wait
        self._queue = build_queue(house, self._serving, self._on_finished)
        self._intakes = {
            scope_of(inbox): build_intake(house, inbox, self._on_claimed) for inbox in house.config.inboxes
        }
        self._ready = {scope: asyncio.Event() for scope in self._scopes}
        self._supervisor = Supervisor(self._clock)
        self._stop = asyncio.Event()
        self._abort = asyncio.Event()
        self._status_due = asyncio.Event()
        self._after_due = {scope: asyncio.Event() for scope in self._scopes}
        house.mover.look = self._look
        self._exit = 0
        self._seen = 0  # the newest command that was carried out
        self._since = self._clock.now()

    async def run(self) -> int:
        """Run all services until stopped."""
        self._seen = await self._house.store.last_command()
        await self._tidy()
        with heard(self._signals()):
            inboxes = [Service(scope, self._watch(scope, intake)) for scope, intake in self._intakes.items()]
            await self._supervisor.run(
                [
                    *inboxes,
                    Service("queue", self._work),
                    Service("controls", self._listen),
                    Service("status-files", self._keep_status),
                    *(Service(f"after {scope}", self._clear(scope)) for scope in self._scopes),
                    Service("beacon", self._shine),
                    Service("conductor", self._conduct, restart=False),
                    Service("ready", self._announce),
                ]
            )
        return self._exit

    async def _tidy(self) -> None:
        """What an earlier process left: paused engines are probed at once, scratch of finished work goes."""
        await self._house.store.resume()
        await self._sweep()

    async def _sweep(self) -> None:
        """Remove encoded audio that nobody is going to send. Listed first: what comes later is somebody's."""
        entries = await asyncio.to_thread(lambda: list(self._house.scratch.iterdir()))
        needed = {f"t{number}" for number in await self._house.store.open_transcriptions()}
        for entry in entries:
            if entry.name not in needed:
                await asyncio.to_thread(shutil.rmtree, entry, ignore_errors=True)

    # -- services ----------------------------------------------------------------------------------

    def _watch(self, scope: str, intake: InboxIntake) -> Callable[[], Awaitable[None]]:
        async def watch() -> None:
            await intake.run(self._ready[scope])

        return watch

    async def _work(self) -> None:
        await self._queue.run(self._house.handler)

    async def _announce(self) -> None:
        for ready in self._ready.values():
            await ready.wait()
        states = Counter(intake.state.state for intake in self._intakes.values())
        _log.info(
            "daemon.ready",
            pid=os.getpid(),
            inboxes=len(self._intakes),
            lost=states.get("lost", 0),
            workers=self._house.config.daemon.workers,
            state_dir=str(self._house.config.daemon.state_dir),
        )
        await asyncio.Event().wait()  # until it is ended

    async def _listen(self) -> None:
        """Carry out commands; now and then look for processes that died."""
        buried_at = self._clock.monotonic()
        while True:
            for command in await self._house.store.commands(self._seen):
                self._seen = command.id
                await self._obey(command.command, command.argument)
            if self._clock.monotonic() - buried_at > _BURY_S:
                buried_at = self._clock.monotonic()
                if await self._house.store.bury_dead():
                    self._queue.wake()
                await self._sweep()
            await self._hold_lost()
            await self._clock.sleep(_LOOK_S)

    async def _hold_lost(self) -> None:
        """Keep the jobs of a lost inbox waiting, and say so, instead of trying each now and then."""
        lost = {scope for scope, intake in self._intakes.items() if intake.state.state == "lost"}
        serving = set(self._scopes) - lost
        for scope in self._serving - serving:
            await self._house.store.hold_scope(scope)
        for scope in serving - self._serving:
            await self._house.store.release_scope(scope)
        if serving != self._serving:
            self._serving.clear()
            self._serving.update(serving)
            self._queue.wake()
            self._status_due.set()

    async def _obey(self, command: str, argument: str) -> None:
        _log.info("control", command=command, argument=argument or None)
        if command == "retry":
            job = await self._house.store.job(argument)
            if job is not None and job.state is JobState.SETTLING:
                self._look(job.scope, job.source.rel)
        elif command == "cancel":
            self._queue.cancel(argument)
            job = await self._house.store.job(argument)
            self._stopwatch.end(argument)
            if job is not None and job.state is JobState.CANCELLED:
                log = _job_log.bind(job=job.id, file=for_terminal(job.source.rel))
                log.info("job.finished", state=str(job.state))
        self._queue.wake()
        self._status_due.set()

    async def _keep_status(self) -> None:
        while True:
            self._status_due.clear()
            while await self._house.keeper.catch_up(self._scopes):
                for due in self._after_due.values():
                    due.set()
            behind = await self._house.store.status_behind(self._scopes)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STATUS_S if behind else None):
                    await self._status_due.wait()

    def _clear(self, scope: str) -> Callable[[], Awaitable[None]]:
        """Move and delete what finished jobs of an inbox leave behind, if that is configured."""

        async def clear() -> None:
            after, due = self._house.store.after, self._after_due[scope]
            while True:
                due.clear()
                while await self._house.mover.catch_up((scope,)):
                    self._status_due.set()
                due_s = await after.next_due_s((scope,))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if due_s is None else max(_AFTER_S, due_s)):
                        await due.wait()

        return clear

    async def _shine(self) -> None:
        await beacon.serve(self._house.config.daemon.state_dir, self._status)

    async def _conduct(self) -> None:
        """Wait for the word to stop, then end everything in order."""
        await self._stop.wait()
        grace_s = self._house.config.daemon.shutdown_grace_s
        _log.info("daemon.stopping", in_work=len(self._queue.in_work), grace_s=grace_s)
        self._supervisor.drain()
        self._supervisor.end("ready", *self._intakes)
        self._queue.drain()
        self._house.transcriber.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await _first(self._supervisor.ended("queue"), self._abort.wait())
        self._house.store.hurry()
        self._supervisor.end("queue")
        await self._supervisor.ended("queue")
        faultpoints.reach("daemon.drained")
        self._supervisor.end("status-files", *(f"after {scope}" for scope in self._scopes))
        await self._supervisor.ended("status-files")  # it must not write something older after the last word
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):  # a share that hangs does not keep the process
                await _first(self._last_words(), self._abort.wait())
        self._supervisor.end("controls", "beacon")

    async def _last_words(self) -> None:
        while await self._house.keeper.catch_up(self._scopes):
            pass

    def _on_claimed(self) -> None:
        self._queue.wake()
        self._status_due.set()

    # -- what happens to jobs ------------------------------------------------------------------------

    def _look(self, scope: str, rel: bytes) -> None:
        intake = self._intakes.get(scope)
        if intake is not None:
            intake.hint(rel)

    async def _on_finished(self, outcome: Outcome, finished: Finished) -> None:
        faultpoints.reach("job.finished")
        job = finished.job
        log = _job_log.bind(job=job.id, file=for_terminal(job.source.rel))
        self._house.keeper.hurry(job.id)
        self._status_due.set()
        if finished.released:
            self._queue.wake()
        if isinstance(outcome, LookAgain):
            self._look(job.scope, job.source.rel)
        if job.state.final:
            worked_s, waited_s = self._stopwatch.end(job.id)
        else:
            self._stopwatch.rest(job.id)
        if isinstance(outcome, Retry):
            log.warning(
                "job.retry", code=outcome.code, reason=outcome.message, failures=job.failures,
                again_in_s=round(outcome.after_s, 2),
            )  # fmt: skip
        elif isinstance(outcome, Wait):
            waiting = outcome.waiting
            log.info(
                "job.waiting",
                reason=str(waiting.reason),
                until=waiting.until,
                detail=waiting.detail,
            )
        elif job.state is JobState.FAILED and job.error is not None:
            log.warning(
                "job.failed", code=job.error.code, reason=job.error.message, hint=job.error.hint,
                failures=job.failures,
            )  # fmt: skip
        elif job.state.final:
            duplicate = job.state is JobState.DUPLICATE
            log.info(
                "job.duplicate" if duplicate else "job.finished",
                state=str(job.state),
                outputs=len(job.outputs),
                took_s=round(worked_s, 2),
                waited_s=round(waited_s, 1) if waited_s >= 0.1 else None,  # for a slot, for a retry
                audio_s=round(job.usage.audio_s, 1),
                cost_usd=round(job.usage.cost_usd, 4),
                flags=",".join(job.flags) or None,
            )
        elif isinstance(outcome, LookAgain):
            log.info("job.released", state=str(job.state), reason=outcome.why)
        else:
            log.info("job.released", state=str(job.state))

    # -- status ------------------------------------------------------------------------------------

    async def _status(self) -> dict[str, Any]:
        """What only the running daemon knows of ``tnfd status``; the store says the rest."""
        now = self._clock.monotonic()
        inboxes = [intake.state for intake in self._intakes.values()]
        stale = [
            f"inbox {inbox.name}"
            for inbox in inboxes
            if inbox.state != "lost" and now - inbox.heartbeat > _STALE_S
        ]
        if now - self._queue.fed_at > _STALE_S:
            stale.append("dispatcher")
        return {
            "pid": os.getpid(),
            "since": moment(self._since),
            "stale": stale,
            "inboxes": [
                {
                    "name": inbox.name,
                    "path": printable(inbox.path),
                    "mode": inbox.mode,
                    "why": inbox.why,
                    "state": inbox.state,
                    "pending": inbox.pending,
                }
                for inbox in inboxes
            ],
            "workers": {
                "busy": min(len(self._queue.in_work), self._house.config.daemon.workers),
                "total": self._house.config.daemon.workers,
            },
            "stopping": self._stop.is_set(),
            "doing": {
                name: engine.doing
                for name, engine in self._house.engines.items()
                if isinstance(engine, Preparing) and engine.doing
            },
        }

    # -- signals -----------------------------------------------------------------------------------

    def _signals(self) -> dict[signal.Signals, Callable[[], None]]:
        stops = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        return {number: partial(self._told_to_stop, number) for number in stops} | {
            signal.SIGUSR1: self._dump
        }

    def _told_to_stop(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP and not sys.stderr.isatty():
            _log.warning("daemon.signal", signal="SIGHUP", reason="a restart reads the configuration anew")
        elif self._stop.is_set():
            _log.warning("daemon.aborting", signal=number.name)
            self._abort.set()
        else:
            self._exit = EXIT_INTERRUPTED if number == signal.SIGINT else 0
            self._stop.set()

    def _dump(self) -> None:
        for entry in dump_tasks():
            _log.warning("daemon.dump", **entry)


async def _first(*facts: Coroutine[Any, Any, object]) -> None:
    """Return when any of these has come true."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fact) for fact in facts]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
