"""One look at one file: opened, stat'ed, asked for writers, closed. Blocking; runs in the inbox's thread."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tnfd.errors import Fault, SourceVanished
from tnfd.intake.lease import probe_lease
from tnfd.intake.whole import prove
from tnfd.model import StatKey
from tnfd.ports.clock import Clock
from tnfd.root import Root
from tnfd.rules.ignore import IGNORE_FILE, companions
from tnfd.rules.placeholder import WINDOWS_ATTRIBUTES, is_online_only, is_unwritten
from tnfd.rules.settle import Lease, Observation
from tnfd.rules.whole import Proof

LOCKED = "the permission to read the folder was lost"


class RootLost(Exception):
    """The inbox's folder is not there, or is another one."""

    def __init__(self, why: str = "the folder was removed, replaced or unmounted") -> None:
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class NotAFile:
    """What has a recording's name and is to be left alone.

    ``link``, ``folder``, ``left_out`` (by a .tnfdignore) or ``online_only`` (opening it would download it).
    """

    reason: str


def stat_key(st: os.stat_result) -> StatKey:
    """Return the key to remember a file by; what is not regular (a pipe) is known by its inode alone."""
    if stat.S_ISREG(st.st_mode):
        return StatKey.of(st)
    return StatKey(st.st_dev, st.st_ino, 0, 0, 0)


def _prove(fd: int, key: StatKey) -> Proof | None:
    try:
        return prove(fd, key.size_bytes)
    except OSError:
        return None  # hashing meets the same trouble, and says so


class Looker:
    """Looks at files below an open root.

    ``local``: asking for a lease makes sense on this mount, and so does a container's proof; ``fs_type``: its
    file system's name.
    """

    def __init__(self, root: Root, clock: Clock, *, local: bool, fs_type: str = "") -> None:
        self._root = root
        self._clock = clock
        self._local = local
        self._fs_type = fs_type

    def look_all(
        self,
        rels: Sequence[bytes],
        were: Sequence[StatKey | None] = (),
        asked: Sequence[StatKey | None] = (),
    ) -> list[Observation | NotAFile]:
        """Look at several files, in order.

        ``were``: how they were seen last. One that is not there, and cannot be told from one whose file
        system is not there, has the problem ``inbox.lost``. ``asked``: the stat under which each was asked
        for a proof already.

        Raises:
            RootLost: something was not there, and neither is the root.
        """
        left_out: dict[bytes, bool] = {}
        before = [*asked, *[None] * (len(rels) - len(asked))]
        seen = [self._look(rel, one, left_out) for rel, one in zip(rels, before, strict=True)]
        if any(isinstance(one, Observation) and (one.stat is None or one.problem) for one in seen):
            self.check_root()
        for index, (rel, was, one) in enumerate(zip(rels, were, seen, strict=False)):
            if was is None or isinstance(one, NotAFile) or one.stat is not None or one.problem:
                continue
            if not self._root.has_left(rel, was):
                seen[index] = replace(one, problem="inbox.lost")
        return seen

    def check_root(self) -> None:
        """Return if the root is there and may be read.

        Raises:
            RootLost: it is not.
        """
        if not self._root.still_there():
            raise RootLost
        if not self._root.is_permitted():
            raise RootLost(LOCKED)

    def is_folder(self, rel: bytes) -> bool:
        """Whether a folder is at this path (not a link to one)."""
        try:
            st = self._root.look(rel)
        except OSError:
            return False
        return st is not None and stat.S_ISDIR(st.st_mode)

    def folders(self, rels: Sequence[bytes]) -> list[bytes]:
        """Return those of ``rels`` that are folders."""
        return [rel for rel in rels if self.is_folder(rel)]

    def _look(self, rel: bytes, asked: StatKey | None, left_out: dict[bytes, bool]) -> Observation | NotAFile:
        began_at = self._clock.monotonic()
        if self._left_out(rel.rpartition(b"/")[0], left_out):
            return NotAFile("left_out")
        key: StatKey | None = None
        lease, links, problem = Lease.UNKNOWN, 1, ""
        ask, proof = False, None
        try:
            if self._is_elsewhere(rel):
                return NotAFile("online_only")
            fd, st = self._root.open_source(rel)
            try:
                key, links = StatKey.of(st), st.st_nlink
                if self._local:
                    lease = probe_lease(fd)
                unwritten = self._local and is_unwritten(st)
                if unwritten or any(self._exists(companion) for companion in companions(rel)):
                    lease = Lease.BUSY
                ask = self._local and lease is not Lease.BUSY and key.size_bytes > 0 and key != asked
                if ask:
                    proof = _prove(fd, key)
            finally:
                os.close(fd)
        except SourceVanished:
            pass
        except Fault as fault:
            if isinstance(fault.__cause__, BlockingIOError):
                lease = Lease.BUSY  # another program's lease stands in the way, as Samba's kernel oplocks do
            else:
                problem = fault.code
            known = self._stat_unopened(rel)
            if isinstance(known, NotAFile):
                return known
            key = known
        return Observation(
            began_at=began_at,
            ended_at=self._clock.monotonic(),
            wall_ns=int(self._clock.now().timestamp() * 1e9),
            stat=key,
            lease=lease,
            links=links,
            problem=problem,
            asked=ask,
            proof=proof,
        )

    def _is_elsewhere(self, rel: bytes) -> bool:
        """Whether the content would have to be downloaded; asked before it is opened, which would do it."""
        try:
            st = self._root.look(rel)
        except OSError:
            return False  # opening it says what is wrong
        if st is None or not stat.S_ISREG(st.st_mode):
            return False
        name = WINDOWS_ATTRIBUTES.get(self._fs_type, "")
        return is_online_only(st, self._fs_type, lambda: self._root.attributes(rel, name))

    def _stat_unopened(self, rel: bytes) -> StatKey | NotAFile | None:
        """Find out about what could not be opened; None: it cannot be told."""
        try:
            st = self._root.look(rel)
        except OSError:
            return None
        if st is None:
            return None
        if stat.S_ISLNK(st.st_mode):
            return NotAFile("link")
        if stat.S_ISDIR(st.st_mode):
            return NotAFile("folder")
        return stat_key(st)

    def _exists(self, rel: bytes) -> bool:
        try:
            return self._root.look(rel) is not None
        except OSError:
            return False

    def _left_out(self, folder: bytes, memory: dict[bytes, bool]) -> bool:
        """Whether ``folder`` or one above it holds a .tnfdignore."""
        known = memory.get(folder)
        if known is None:
            here = self._exists(folder + b"/" + IGNORE_FILE if folder else IGNORE_FILE)
            known = here or (bool(folder) and self._left_out(folder.rpartition(b"/")[0], memory))
            memory[folder] = known
        return known
