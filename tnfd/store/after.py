"""What the store knows of the files of finished jobs that are to be moved or deleted (``after``).

Owns the errand rows, and the columns of a job that say when it is due and where its recording lies by now.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

from tnfd.model import FileRef, Job, JobState, OutputFile, StatKey
from tnfd.ports.after import LONGEST_S, SOURCE, Errand
from tnfd.rules.names import fold
from tnfd.store import jobs, records, views
from tnfd.store.intake import forget_sight, remember

T = TypeVar("T")
Unit = Callable[[sqlite3.Connection], T]

# A job is due once its status file says that it has ended (whoever writes it must not meet whoever moves it),
# or while something of it is on its way, whatever has become of the job meanwhile. The plus keeps SQLite from
# going through all jobs that have ended: few of them are due.
_DUE = """
j.scope IN (SELECT value FROM json_each(:scopes))
AND (j.after_at IS NOT NULL AND j.revision = j.status_revision AND +j.state IN ('done', 'duplicate', 'failed')
     OR j.id IN (SELECT job FROM errand))
"""


class Run(Protocol):
    """Runs a unit of work somewhere and gives what it returns."""

    def __call__(self, unit: Unit[T]) -> Awaitable[T]:
        """Return once the unit is committed."""
        ...


class AfterRows:
    """See ``ports.after.AfterStore``; ``write`` runs a unit in a transaction, ``read`` beside the writer."""

    def __init__(self, write: Run, read: Run, now: Callable[[], float]) -> None:
        self._write = write
        self._read = read
        self._now = now

    async def due(self, scopes: Collection[str], *, limit: int, without: Collection[str]) -> list[str]:
        """See the port."""
        values = _values(scopes, self._now()) | {"limit": limit, "without": json.dumps([*without])}
        return await self._read(lambda c: _due(c, values))

    async def next_due_s(self, scopes: Collection[str]) -> float | None:
        """See the port."""
        values = _values(scopes, self._now())
        at = await self._read(lambda c: _next_due(c, values))
        if at is None:
            return None
        left_s = at - self._now()
        return left_s if 0 < left_s <= LONGEST_S else 0.0

    async def load(self, job_id: str) -> tuple[Job, tuple[Errand, ...]] | None:
        """See the port."""
        return await self._read(lambda c: _load(c, job_id))

    async def superseded(self, job: Job) -> bool:
        """See the port."""
        return await self._read(lambda c: _superseded(c, job.id))

    async def outputs(self, job_id: str) -> list[tuple[bytes, OutputFile]]:
        """See the port."""
        return await self._read(lambda c: views.outputs(c, job_id))

    async def plan(self, job_id: str, errands: Sequence[Errand]) -> tuple[str, ...] | None:
        """See the port."""
        return await self._write(lambda c: _plan(c, job_id, errands))

    async def rename(self, job_id: str, part: str, to_name: bytes) -> bool:
        """See the port."""
        return await self._write(lambda c: _rename(c, job_id, part, to_name))

    async def copied(self, job_id: str, part: str, ino: int) -> None:
        """See the port."""
        value = ino if ino < 1 << 63 else str(ino)
        await self._write(
            lambda c: c.execute(
                "UPDATE errand SET copied_ino = ? WHERE job = ? AND part = ?", (value, job_id, part)
            )
        )

    async def arrived(self, job_id: str, part: str, stat: StatKey | None) -> None:
        """See the port."""
        await self._write(lambda c: _arrived(c, job_id, part, stat, self._now()))

    async def call_off(self, job_id: str) -> None:
        """See the port."""
        await self._write(lambda c: _call_off(c, job_id))

    async def over(self, job_id: str, event: str, detail: str, *, shown: bool) -> None:
        """See the port."""
        await self._write(lambda c: _over(c, job_id, self._now(), event, detail, shown))

    async def put_off(self, job_id: str, after_s: float) -> None:
        """See the port."""
        at = self._now() + after_s
        await self._write(
            lambda c: c.execute(
                "UPDATE job SET after_at = ?, after_tries = after_tries + 1 WHERE id = ?", (at, job_id)
            )
        )

    async def tries(self, job_id: str) -> int:
        """See the port."""
        return await self._read(lambda c: _tries(c, job_id))


def _values(scopes: Collection[str], now: float) -> dict[str, Any]:
    return {"scopes": json.dumps([*scopes]), "now": now}


def _due(connection: sqlite3.Connection, values: dict[str, Any]) -> list[str]:
    rows = connection.execute(
        f"SELECT j.id FROM job AS j WHERE {_DUE}"
        # What is put off for longer than anything ever is tells that the clock was set back.
        f" AND (coalesce(j.after_at, 0) <= :now OR j.after_at > :now + {LONGEST_S})"
        " AND j.id NOT IN (SELECT value FROM json_each(:without)) ORDER BY j.after_at LIMIT :limit",
        values,
    )
    return [row["id"] for row in rows]


def _next_due(connection: sqlite3.Connection, values: dict[str, Any]) -> float | None:
    (at,) = connection.execute(
        f"SELECT min(coalesce(j.after_at, 0)) FROM job AS j WHERE {_DUE}", values
    ).fetchone()
    return None if at is None else float(at)


def _load(connection: sqlite3.Connection, job_id: str) -> tuple[Job, tuple[Errand, ...]] | None:
    row = connection.execute(
        "SELECT after_at, revision - status_revision AS behind FROM job WHERE id = ?", (job_id,)
    ).fetchone()
    on_the_way = _errands(connection, job_id)
    job = jobs.get(connection, job_id)
    if row is None or job is None:
        return None
    ended = row["after_at"] is not None and not row["behind"] and job.state in jobs.ENDED
    return (job, on_the_way) if ended or on_the_way else None


def _errands(connection: sqlite3.Connection, job_id: str) -> tuple[Errand, ...]:
    return tuple(
        Errand(
            row["part"], row["act"], row["folder"], row["name"], row["to_folder"], row["to_name"],
            None if row["copied_ino"] is None else int(row["copied_ino"]),
        )
        for row in connection.execute("SELECT * FROM errand WHERE job = ? ORDER BY seq", (job_id,))
    )  # fmt: skip


def _superseded(connection: sqlite3.Connection, job_id: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM job AS j JOIN job AS n ON n.path = j.path AND n.rowid > j.rowid WHERE j.id = ?",
        (job_id,),
    ).fetchone()
    return found is not None


def _plan(connection: sqlite3.Connection, job_id: str, errands: Sequence[Errand]) -> tuple[str, ...] | None:
    row = connection.execute("SELECT state FROM job WHERE id = ?", (job_id,)).fetchone()
    if row is None or JobState(row["state"]) not in jobs.ENDED:
        return None
    refused = tuple(
        one.part
        for one in errands
        if one.part != SOURCE and not _is_free(connection, job_id, one.part, one.to_folder, one.to_name)
    )
    if refused:
        return refused
    for seq, one in enumerate(errands):
        connection.execute(
            "INSERT INTO errand (job, seq, part, act, folder, name, to_folder, to_name)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (job_id, seq, one.part, one.act, one.folder, one.name, one.to_folder, one.to_name),
        )
        _rehome(connection, job_id, one.part, one.to_folder, one.to_name)
    return ()


def _is_free(connection: sqlite3.Connection, job_id: str, part: str, folder: bytes, name: bytes) -> bool:
    taken = connection.execute(
        "SELECT 1 FROM output WHERE folder = ? AND folded = ? AND NOT (job = ? AND format = ?)",
        (folder, _folded(name), job_id, part),
    ).fetchone()
    return taken is None


def _folded(name: bytes) -> str:
    return records.plain(fold(name))


def _rehome(connection: sqlite3.Connection, job_id: str, part: str, folder: bytes, name: bytes) -> None:
    if part != SOURCE:
        connection.execute(
            "UPDATE OR IGNORE output SET folder = ?, name = ?, folded = ? WHERE job = ? AND format = ?",
            (folder, name, _folded(name), job_id, part),
        )


def _rename(connection: sqlite3.Connection, job_id: str, part: str, to_name: bytes) -> bool:
    row = connection.execute(
        "SELECT to_folder FROM errand WHERE job = ? AND part = ?", (job_id, part)
    ).fetchone()
    if part != SOURCE and not _is_free(connection, job_id, part, row["to_folder"], to_name):
        return False
    connection.execute(
        "UPDATE errand SET to_name = ?, copied_ino = NULL WHERE job = ? AND part = ?", (to_name, job_id, part)
    )
    _rehome(connection, job_id, part, row["to_folder"], to_name)
    return True


def _arrived(
    connection: sqlite3.Connection, job_id: str, part: str, stat: StatKey | None, now: float
) -> None:
    row = connection.execute("SELECT * FROM errand WHERE job = ? AND part = ?", (job_id, part)).fetchone()
    if row is None:
        return
    connection.execute("DELETE FROM errand WHERE job = ? AND part = ?", (job_id, part))
    if part != SOURCE:
        return
    (root,) = connection.execute("SELECT root FROM job WHERE id = ?", (job_id,)).fetchone()
    there = os.path.join(row["to_folder"], row["to_name"]) if row["act"] == "move" else None
    connection.execute("UPDATE job SET moved_to = ?, left_at = ? WHERE id = ?", (there, now, job_id))
    # Whatever comes to the old path is a new file...
    forget_sight(connection, FileRef(root, _below(root, row["folder"], row["name"]), _NO_STAT))
    if there is not None and stat is not None:
        jobs.refresh_stat(connection, job_id, stat)
        # ...and the old one is known, should its folder be configured as a part of the inbox some day.
        remember(connection, FileRef(root, _below(root, row["to_folder"], row["to_name"]), stat))


_NO_STAT = StatKey(0, 0, 0, 0, 0)


def _below(root: bytes, folder: bytes, name: bytes) -> bytes:
    return os.path.relpath(os.path.join(folder, name), root)


def _call_off(connection: sqlite3.Connection, job_id: str) -> None:
    for one in _errands(connection, job_id):
        if _is_free(connection, job_id, one.part, one.folder, one.name):
            _rehome(connection, job_id, one.part, one.folder, one.name)
    connection.execute("DELETE FROM errand WHERE job = ?", (job_id,))


def _over(
    connection: sqlite3.Connection, job_id: str, now: float, event: str, detail: str, shown: bool
) -> None:
    connection.execute("UPDATE job SET after_at = NULL, after_tries = 0 WHERE id = ?", (job_id,))
    jobs.note(connection, job_id, now, event, detail)
    if shown:
        jobs.touch(connection, job_id, now)


def _tries(connection: sqlite3.Connection, job_id: str) -> int:
    row = connection.execute("SELECT after_tries FROM job WHERE id = ?", (job_id,)).fetchone()
    return 0 if row is None else int(row["after_tries"])
