"""The one thread that writes to the database: units of work in, group commits out.

A unit of work is a plain function of the connection. Whatever has queued up (at most 200 units) runs in one
transaction, each in a savepoint of its own: one fsync for all, and one unit's error undoes only that unit.
A caller's cancellation never leaves half a unit behind: a unit that was handed over runs whole or not at all.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from tnfd import faultpoints
from tnfd.clock import SystemClock
from tnfd.errors import Fault, StoreUnusable
from tnfd.ports.clock import Clock
from tnfd.store.sqlerror import translate

T = TypeVar("T")
_GROUP = 200
_AGAIN_S = 2.0
_log = structlog.get_logger("tnfd.store")

_Unit = tuple[Callable[[sqlite3.Connection], Any], "concurrent.futures.Future[Any]"]


class Writer:
    """Owns the writing connection; ``run`` hands a unit of work over and waits for its commit."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], clock: Clock | None = None) -> None:
        self._connect = connect
        self._clock = clock or SystemClock()
        self._busy_since: float | None = None
        self._units: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._work, name="tnfd-store", daemon=True)
        self._closed = False
        self._hurry = threading.Event()  # from now on nothing is waited for

    def stuck_s(self, now: float) -> float:
        """For how long (seconds) it has been at one commit; 0 while idle, or while it waits for space."""
        since = self._busy_since
        if not self._closed and self._opened.done() and not self._thread.is_alive():
            return float("inf")
        return 0.0 if since is None else now - since

    def hurry(self) -> None:
        """Stop waiting for a full disk or a busy database: fail what cannot be written now."""
        self._hurry.set()

    async def open(self) -> None:
        """Start the thread and connect.

        Raises:
            StoreUnusable: see ``connect``.
        """
        self._thread.start()
        await asyncio.wrap_future(self._opened)

    async def close(self) -> None:
        """Commit what was handed over, close the connection, end the thread."""
        if self._closed:
            return
        self._closed = True
        self._units.put(None)
        await asyncio.to_thread(self._thread.join)

    async def run(self, unit: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``unit`` in a transaction; return its value once it is durable.

        Raises:
            StoreUnusable, Fault: the database cannot be written.
            Exception: whatever the unit raised; nothing of it is stored then.
        """
        if self._closed:
            raise StoreUnusable("the store is closed")
        done: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._units.put((unit, done))
        return await asyncio.wrap_future(done)

    def _work(self) -> None:
        try:
            connection = self._connect()
        except BaseException as error:  # noqa: BLE001 - handed to whoever awaits open()
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        with contextlib.closing(connection):
            while (group := self._take()) is not None:
                self._settle(connection, group)

    def _take(self) -> list[_Unit] | None:
        first = self._units.get()
        if first is None:
            return None
        group = [first]
        while len(group) < _GROUP:
            try:
                unit = self._units.get_nowait()
            except queue.Empty:
                break
            if unit is None:
                self._units.put(None)  # finish this group, then end
                break
            group.append(unit)
        return group

    def _settle(self, connection: sqlite3.Connection, group: list[_Unit]) -> None:
        """Commit a group; a full disk or a busy database is waited out: no caller loses what it has."""
        # From here on a unit that was not cancelled runs, and nobody but this thread settles its future.
        units = [(unit, done) for unit, done in group if done.set_running_or_notify_cancel()]
        waited = False
        while (trouble := self._timed(connection, units)) is not None:
            if not waited:
                _log.warning("store.waiting", reason=str(trouble))
            waited = True
            self._hurry.wait(_AGAIN_S)
        if waited:
            _log.info("store.writes_again")

    def _timed(self, connection: sqlite3.Connection, units: list[_Unit]) -> Exception | None:
        self._busy_since = self._clock.monotonic()
        try:
            return self._commit(connection, units, last=self._hurry.is_set())
        finally:
            self._busy_since = None

    @staticmethod
    def _commit(connection: sqlite3.Connection, units: list[_Unit], *, last: bool) -> Exception | None:
        """Run the units; return the trouble if they should be run once more (nothing of them is stored)."""
        outcomes: list[tuple[concurrent.futures.Future[Any], Any, BaseException | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for unit, done in units:
                outcomes.append((done, *_run_one(connection, unit)))
            connection.execute("COMMIT")
            faultpoints.reach("store.committed")
        except BaseException as error:  # noqa: BLE001 - every waiter of the group is told
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            failure = translate(error) if isinstance(error, sqlite3.Error) else error
            if not last and _passes(error, failure):
                return failure if isinstance(failure, Exception) else None
            for _, done in units:
                done.set_exception(failure)
            return None
        for done, value, failed in outcomes:
            if failed is not None:
                done.set_exception(failed)
            else:
                done.set_result(value)
        return None


def _passes(error: BaseException, failure: BaseException) -> bool:
    """Whether the trouble may pass by itself: no space, or another program that holds the database."""
    if isinstance(failure, Fault):
        return failure.code == "output.disk_full"
    name = getattr(error, "sqlite_errorname", "") or ""
    return isinstance(error, sqlite3.Error) and name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _run_one(
    connection: sqlite3.Connection, unit: Callable[[sqlite3.Connection], Any]
) -> tuple[Any, BaseException | None]:
    connection.execute("SAVEPOINT unit")
    try:
        value = unit(connection)
    except Exception as error:
        if isinstance(error, sqlite3.Error) and translate(error) is not error:
            raise  # the database itself is in trouble: the whole group fails
        connection.execute("ROLLBACK TO unit")
        connection.execute("RELEASE unit")
        return None, error
    connection.execute("RELEASE unit")
    return value, None
