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
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from tnfd import beacon, faultpoints, logs
from tnfd.clock import SystemClock
from tnfd.config import Config, InboxConfig
from tnfd.config.changes import Changes, changes_between
from tnfd.daemon.pulse import Pulse, Vitals
from tnfd.errors import ConfigError, Problem
from tnfd.intake.inbox import InboxIntake
from tnfd.intake.lease import ignore_sigio
from tnfd.intake.roots import Roots
from tnfd.model import JobState
from tnfd.notify import Notifier
from tnfd.pipeline.stopwatch import Stopwatch
from tnfd.ports.clock import Clock
from tnfd.ports.engine import Engine, Preparing
from tnfd.ports.queue import LookAgain, Outcome, Retry, Wait
from tnfd.ports.store import Finished
from tnfd.rules.health import decide_stale
from tnfd.rules.names import for_terminal, printable
from tnfd.rules.status import moment
from tnfd.service.sandbox import advise
from tnfd.signals import heard
from tnfd.store.presence import lock_daemon
from tnfd.supervise import Service, Supervisor, dump_tasks
from tnfd.threads import FileThread
from tnfd.wiring import (
    House,
    build_intake,
    build_queue,
    open_house,
    prepare_state_dir,
    queue_width,
    renew_house,
    scope_of,
)

_log = structlog.get_logger("tnfd.daemon")
_job_log = structlog.get_logger("tnfd.job")

EXIT_INTERRUPTED = 130
_LOOK_S = 0.9  # commands are seen within a second
_STATUS_S = 1.0  # while some job's status file is behind
_AFTER_S = 0.2  # at least, until what was put off is tried again
_BURY_S = 60.0
_EXPIRE_S = 3600.0
_LAST_WORD_S = 3.0  # for the status files of what has just ended
_LOST_LOOK_S = 0.5
_REREAD_S = 30.0  # a folder that hangs does not keep the configuration from being judged

# Reads the configuration anew; what is given are folders that are watched already and need not be looked at.
Reread = Callable[[Collection[Path]], Config]


async def run_daemon(
    config: Config, environ: Mapping[str, str], clock: Clock | None = None, reread: Reread | None = None
) -> int:
    """Run until a signal says stop; return the exit code. SIGHUP has ``reread`` called.

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
            return await _Daemon(house, stopwatch, environ, reread or (lambda _: config)).run()
    finally:
        os.close(lock)


@dataclass(slots=True)
class _Watched:
    """One inbox that is served."""

    config: InboxConfig
    intake: InboxIntake
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class _Daemon:
    def __init__(
        self, house: House, stopwatch: Stopwatch, environ: Mapping[str, str], reread: Reread
    ) -> None:
        self._house = house
        self._stopwatch = stopwatch
        self._environ = environ
        self._reread = reread
        self._clock = house.clock
        self._inboxes: dict[str, _Watched] = {}
        self._leaving: set[str] = set()  # no longer configured, but work in progress is theirs
        self._after_due: dict[str, asyncio.Event] = {}
        self._retired: list[tuple[Engine, set[str]]] = []  # and the jobs that may still hold it
        self._serving = {scope_of(inbox) for inbox in house.config.inboxes}  # less those whose folder is lost
        self._queue = build_queue(house, self._serving, self._on_finished)
        self._roots = Roots(os.fsencode(inbox.path) for inbox in house.config.inboxes)
        self._supervisor = Supervisor(self._clock)
        self._stop = asyncio.Event()
        self._abort = asyncio.Event()
        self._hung_up = asyncio.Event()
        self._status_due = asyncio.Event()
        self._pulse = Pulse(house.store, self._clock, Notifier.from_environ(environ), self._vitals)
        house.mover.look = self._look
        self._at_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._moving = asyncio.Lock()  # inboxes and engines come and go
        self._exit = 0
        self._seen = 0  # the newest command that was carried out
        self._since = self._clock.now()
        self._expired_at = self._clock.monotonic()
        self._refused: list[str] = []  # what was wrong with the configuration when it was last read anew

    @property
    def _scopes(self) -> tuple[str, ...]:
        """Whose status files and recordings are seen to."""
        return (*self._inboxes, *self._leaving)

    async def run(self) -> int:
        """Run all services until stopped."""
        self._seen = await self._house.store.last_command()
        await self._tidy()
        with heard(self._signals()):
            inboxes = [
                service for inbox in self._house.config.inboxes for service in self._services_of(inbox)
            ]
            await self._supervisor.run(
                [
                    *inboxes,
                    Service("queue", self._work),
                    Service("controls", self._listen),
                    Service("status-files", self._keep_status),
                    Service("beacon", self._shine),
                    Service("pulse", self._pulse.run),
                    Service("configuration", self._follow),
                    Service("conductor", self._conduct, restart=False),
                    Service("ready", self._announce),
                ]
            )
        return self._exit

    def _services_of(self, inbox: InboxConfig) -> list[Service]:
        """Take an inbox in."""
        scope = scope_of(inbox)
        intake = build_intake(self._house, inbox, self._on_claimed, self._roots)
        self._inboxes[scope] = watched = _Watched(inbox, intake)
        services = [Service(scope, self._watch(watched))]
        self._leaving.discard(scope)
        if scope not in self._after_due:
            self._after_due[scope] = asyncio.Event()
            services.append(Service(f"after {scope}", self._clear(scope)))
        return services

    async def _tidy(self) -> None:
        """What an earlier process left: paused engines are probed at once, scratch of finished work goes."""
        await self._house.store.resume()
        await self._expire()
        await self._sweep()

    async def _expire(self) -> None:
        """Forget the text of what has been finished for as long as is configured."""
        self._expired_at = self._clock.monotonic()
        days = self._house.config.retention.transcripts_days
        if days:
            gone = await self._house.store.expire(self._clock.now() - timedelta(days=days))
            if gone:
                _log.info("transcripts.expired", count=len(gone), days=days)

    async def _sweep(self) -> None:
        """Remove encoded audio that nobody is going to send. Listed first: what comes later is somebody's."""
        entries = await asyncio.to_thread(lambda: list(self._house.scratch.iterdir()))
        needed = {f"t{number}" for number in await self._house.store.open_transcriptions()}
        for entry in entries:
            if entry.name not in needed:
                await asyncio.to_thread(shutil.rmtree, entry, ignore_errors=True)

    # -- services ----------------------------------------------------------------------------------

    def _watch(self, watched: _Watched) -> Callable[[], Awaitable[None]]:
        async def watch() -> None:
            await watched.intake.run(watched.ready)

        return watch

    async def _work(self) -> None:
        await self._queue.run(self._house.handler)

    async def _announce(self) -> None:
        for watched in list(self._inboxes.values()):
            # A share that hangs gives no word at all; it is lost after a while.
            while not watched.ready.is_set() and watched.intake.state.state != "lost":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOST_LOOK_S):
                        await watched.ready.wait()
        states = Counter(watched.intake.state.state for watched in self._inboxes.values())
        _log.info(
            "daemon.ready",
            pid=os.getpid(),
            inboxes=len(self._inboxes),
            lost=states.get("lost", 0),
            workers=self._house.config.daemon.workers,
            state_dir=str(self._house.config.daemon.state_dir),
        )
        self._pulse.ready()
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
            if self._clock.monotonic() - self._expired_at > _EXPIRE_S:
                await self._expire()
            await self._hold_lost()
            async with self._moving:
                await self._let_go()
            await self._clock.sleep(_LOOK_S)

    async def _hold_lost(self) -> None:
        """Keep the jobs of a lost inbox waiting, and say so, instead of trying each now and then."""
        lost = {scope for scope, watched in self._inboxes.items() if watched.intake.state.state == "lost"}
        serving = set(self._inboxes) - lost
        for scope in (self._serving - serving) & set(self._inboxes):
            await self._house.store.hold_scope(scope)
        for scope in serving - self._serving:
            await self._house.store.release_scope(scope)
        if serving != self._serving:
            self._serving.clear()
            self._serving.update(serving)
            self._queue.wake()
            self._status_due.set()
            self._pulse.tell()

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
        self._pulse.stopping()
        self._supervisor.drain()
        self._supervisor.end("configuration", "ready", *self._inboxes)
        self._queue.drain()
        self._house.transcriber.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await _first(
                    self._supervisor.ended("queue"),
                    self._abort.wait(),
                    self._pulse.drain(lambda: bool(self._queue.in_work)),
                )
        self._house.store.hurry()
        self._supervisor.end("queue")
        await self._supervisor.ended("queue")
        faultpoints.reach("daemon.drained")
        self._supervisor.end("status-files", *(f"after {scope}" for scope in self._after_due))
        await self._supervisor.ended("status-files")  # it must not write something older after the last word
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):  # a share that hangs does not keep the process
                await _first(self._last_words(), self._abort.wait())
        self._supervisor.end("controls", "beacon", "pulse")

    async def _last_words(self) -> None:
        while await self._house.keeper.catch_up(self._scopes):
            pass

    def _on_claimed(self) -> None:
        self._queue.wake()
        self._status_due.set()
        self._pulse.tell()

    # -- the configuration ---------------------------------------------------------------------------

    async def _follow(self) -> None:
        """At SIGHUP read the configuration anew; what is in progress goes on under the one it began with."""
        while True:
            await self._hung_up.wait()
            self._hung_up.clear()
            self._pulse.reloading()
            try:
                await self._reload()
            finally:
                self._pulse.reloaded()

    async def _reload(self) -> None:
        try:
            config = await self._read_anew()
            changes = changes_between(self._house.config, config)
            if changes.refused:
                raise ConfigError(changes.refused)
        except ConfigError as error:
            self._refused = [str(problem) for problem in error.problems]
            hint = advise(error.problems, self._environ) or "the former one holds; tnfd config check"
            for problem in self._refused:
                _log.error("config.refused", reason=problem, hint=hint)
            return
        async with self._moving:
            await self._apply(changes, config)
        self._refused = []
        _log.info(
            "config.reloaded",
            changed=", ".join(changes.keys) or "nothing",
            inboxes=len(self._inboxes),
            workers=config.daemon.workers,
        )

    async def _read_anew(self) -> Config:
        thread = FileThread("configuration", self._clock)
        watched = [watched.config.path for watched in self._inboxes.values()]
        try:
            async with asyncio.timeout(_REREAD_S):
                return await thread.run(self._reread, watched)
        except TimeoutError:
            message = f"a folder that it names does not answer within {_REREAD_S:.0f} s"
            raise ConfigError([Problem("configuration", None, "inbox", message)]) from None
        finally:
            await thread.close()

    async def _apply(self, changes: Changes, config: Config) -> None:
        in_work = set(self._queue.in_work)
        self._house, gone = await renew_house(self._house, config, self._environ, changes.engines)
        self._retired += [(engine, set(in_work)) for engine in gone]
        logs.configure(config.daemon.log_format, config.daemon.log_level, rotate=True)
        self._queue.resize(**queue_width(config))
        for inbox in (*changes.removed, *changes.changed):
            await self._leave(scope_of(inbox))
        self._leaving.update(scope_of(inbox) for inbox in changes.removed)
        for inbox in (*changes.added, *changes.changed):
            scope = scope_of(inbox)
            await self._house.store.release_scope(scope)
            self._supervisor.add(*self._services_of(inbox))
            self._serving.add(scope)
        self._queue.refresh()
        await self._house.store.resume()  # what is paused may work now
        self._queue.wake()
        self._status_due.set()

    async def _leave(self, scope: str) -> None:
        """Stop watching a folder; what is in progress from there is finished."""
        watched = self._inboxes.pop(scope)
        self._serving.discard(scope)
        self._supervisor.end(scope)
        await self._supervisor.ended(scope)
        self._roots.forget(os.fsencode(watched.config.path))
        watched.ready.set()  # nobody waits for it any more

    async def _let_go(self) -> None:
        """Close what work in progress held, once that has ended."""
        in_work = set(self._queue.in_work)
        for engine, jobs in [one for one in self._retired if not one[1] & in_work]:
            self._retired.remove((engine, jobs))
            await self._house.rack.close(engine)
        for scope in self._leaving - self._queue.scopes_in_work:
            owed = await self._house.store.after.next_due_s((scope,))
            if owed is None and not await self._house.store.status_behind((scope,)):
                self._leaving.discard(scope)
                self._supervisor.end(f"after {scope}")
                await self._supervisor.ended(f"after {scope}")
                del self._after_due[scope]

    # -- what happens to jobs ------------------------------------------------------------------------

    def _look(self, scope: str, rel: bytes) -> None:
        if (watched := self._inboxes.get(scope)) is not None:
            watched.intake.hint(rel)

    async def _on_finished(self, outcome: Outcome, finished: Finished) -> None:
        faultpoints.reach("job.finished")
        job = finished.job
        log = _job_log.bind(job=job.id, file=for_terminal(job.source.rel))
        self._house.keeper.hurry(job.id)
        self._status_due.set()
        self._pulse.tell()
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
        inboxes = [watched.intake.state for watched in self._inboxes.values()]
        vitals = self._vitals()
        return {
            "pid": os.getpid(),
            "since": moment(self._since),
            "stale": list(vitals.stale),
            "refused": self._refused,
            "inboxes": [
                {
                    "name": inbox.name,
                    "path": printable(inbox.path),
                    "mode": inbox.mode,
                    "why": inbox.why,
                    "state": inbox.state,
                    "pending": inbox.pending,
                    "walked": inbox.walked,
                    "paused": list(inbox.paused),
                }
                for inbox in inboxes
            ],
            "workers": {"busy": vitals.busy, "total": vitals.workers},
            "stopping": vitals.stopping,
            "doing": {
                name: engine.doing
                for name, engine in self._house.engines.items()
                if isinstance(engine, Preparing) and engine.doing
            },
        }

    def _vitals(self) -> Vitals:
        inboxes = [watched.intake.state for watched in self._inboxes.values()]
        workers = self._house.config.daemon.workers
        stale = decide_stale(
            self._clock.monotonic(),
            [(inbox.name, inbox.state == "lost", inbox.heartbeat) for inbox in inboxes],
            self._queue.fed_at,
            self._pulse.stored_at,
            stopping=self._stop.is_set(),
        )
        return Vitals(
            busy=min(len(self._queue.in_work), workers),
            workers=workers,
            inboxes=len(inboxes),
            lost=sum(inbox.state == "lost" for inbox in inboxes),
            stale=tuple(stale),
            stopping=self._stop.is_set(),
        )

    # -- signals -----------------------------------------------------------------------------------

    def _signals(self) -> dict[signal.Signals, Callable[[], None]]:
        stops = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        return {number: partial(self._told_to_stop, number) for number in stops} | {
            signal.SIGUSR1: self._dump
        }

    def _told_to_stop(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP and not (self._at_terminal and _terminal_is_gone()):
            self._hung_up.set()
        elif self._stop.is_set():
            _log.warning("daemon.aborting", signal=number.name)
            self._abort.set()
        else:
            self._exit = EXIT_INTERRUPTED if number == signal.SIGINT else 0
            self._stop.set()

    def _dump(self) -> None:
        for entry in dump_tasks():
            _log.warning("daemon.dump", **entry)


def _terminal_is_gone() -> bool:
    """Whether SIGHUP came because the terminal was closed, not from somebody who wants a reload."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return True
    return False


async def _first(*facts: Coroutine[Any, Any, object]) -> None:
    """Return when any of these has come true."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fact) for fact in facts]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
