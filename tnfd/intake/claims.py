"""The claims port on a store: writes, then says what happened and wakes whoever works."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from tnfd import faultpoints
from tnfd.errors import Fault
from tnfd.model import FileRef, StatKey
from tnfd.ports.claims import Found, Origin
from tnfd.ports.store import IntakeStore, Kin
from tnfd.rules.names import for_terminal

Existing = Callable[[Origin, Found], Awaitable[str]]  # the name of a foreign transcript, or empty

_log = structlog.get_logger("tnfd.intake")


class StoreClaims:
    """See ``ports.claims.Claims``; one for each root. ``wake`` is called after each commit.

    ``existing``: files for which it gives a name are left alone.
    """

    def __init__(
        self, store: IntakeStore, root: bytes, wake: Callable[[], None], existing: Existing | None = None
    ) -> None:
        self._store = store
        self._root = root
        self._wake = wake
        self._existing = existing

    async def known(self, root: bytes, after: bytes, limit: int) -> list[tuple[bytes, StatKey]]:
        """See the port."""
        return await self._store.known(root, after, limit)

    async def unsettled(self, root: bytes) -> dict[bytes, StatKey]:
        """See the port."""
        return await self._store.unsettled(root)

    async def claim(self, origin: Origin, found: Sequence[Found]) -> None:
        """See the port."""
        found = await self._without_existing(origin, await self._followed(found))
        claims = await self._store.claim(origin, found)
        faultpoints.reach("intake.claimed")
        for one, claim in zip(found, claims, strict=True):
            if claim.job == one.follows:
                _log.info("job.moved", job=claim.job, file=for_terminal(one.ref.rel), inbox=origin.inbox)
                continue
            log = _log.info if claim.new else _log.debug
            log(
                "job.queued" if claim.new else "file.known",
                job=claim.job,
                file=for_terminal(one.ref.rel),
                inbox=origin.inbox,
                size_bytes=one.ref.stat.size_bytes,
            )
        self._wake()

    async def _followed(self, found: Sequence[Found]) -> Sequence[Found]:
        """Recognise files that were renamed or moved while they had a job."""
        kin = await self._store.kin(found)
        if not kin:
            return found
        moved = await asyncio.to_thread(
            lambda: {at: one for at, known in kin.items() if (one := _moved(found[at], known)) is not None}
        )
        return [
            one if at not in moved else replace(one, follows=moved[at].job) for at, one in enumerate(found)
        ]

    async def _without_existing(self, origin: Origin, found: Sequence[Found]) -> Sequence[Found]:
        """Leave files alone that have a transcript which tnfd did not write, where that is asked for."""
        if self._existing is None:
            return found
        wanted = []
        for one in found:
            name = "" if one.follows else await self._existing(origin, one)
            if name:
                await self._store.leave(one.ref, f"{name} was there")
                _log.info(
                    "file.ignored", file=for_terminal(one.ref.rel), inbox=origin.inbox,
                    reason="has a transcript", name=for_terminal(os.fsencode(name)),
                )  # fmt: skip
            else:
                wanted.append(one)
        return wanted

    async def refuse(self, origin: Origin, ref: FileRef, seen_at: datetime, fault: Fault) -> None:
        """See the port."""
        claim = await self._store.refuse(origin, ref, seen_at, fault)
        if claim.new:
            _log.warning(
                "job.failed",
                job=claim.job,
                file=for_terminal(ref.rel),
                inbox=origin.inbox,
                code=fault.code,
                reason=fault.message,
                hint=fault.hint,
            )
        self._wake()

    async def settling(self, origin: Origin, ref: FileRef, seen_at: datetime) -> None:
        """See the port."""
        await self._store.settling(origin, ref, seen_at)
        self._wake()

    async def gone(self, origin: Origin, rels: Sequence[bytes]) -> None:
        """See the port."""
        for job in await self._store.gone(self._root, rels):
            _log.info("job.finished", job=job, inbox=origin.inbox, state="vanished")
        self._wake()

    async def first_start(self, root: bytes) -> bool:
        """See the port."""
        return await self._store.first_start(root)

    async def skip(self, origin: Origin, refs: Sequence[FileRef]) -> None:
        """See the port."""
        await self._store.skip(self._root, refs)
        if refs:
            reason = "there before the first start"
            _log.info("file.ignored", inbox=origin.inbox, files=len(refs), reason=reason)


def _moved(found: Found, known: Sequence[Kin]) -> Kin | None:
    """The job that goes with the file; blocking. A job that has ended goes only where its outputs went."""
    for kin in known:
        if _has_left(kin.path, found.ref.stat.ino) and (not kin.ended or _came_along(found, kin)):
            return kin
    return None


def _has_left(path: bytes, ino: int) -> bool:
    try:
        return os.lstat(path).st_ino != ino
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def _came_along(found: Found, kin: Kin) -> bool:
    if not kin.outputs or os.path.basename(kin.path) != found.ref.name:
        return False
    folder = os.path.dirname(found.ref.path)
    return all(_is(os.path.join(folder, name), sha256) for name, sha256 in kin.outputs)


def _is(path: bytes, sha256: str) -> bool:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False
