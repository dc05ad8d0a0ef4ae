"""Walking an inbox in slices: the truth about what lies there. Blocking; runs in the inbox's thread.

Never follows a link, never enters a folder that is left out, and goes on past folders that cannot be read.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice

from tnfd.intake.look import RootLost, stat_key
from tnfd.model import StatKey
from tnfd.root import Root
from tnfd.rules.ignore import IGNORE_FILE, Ignore, NameRules, decide_folder, decide_name
from tnfd.rules.placeholder import is_online_only

SLICE = 500

_VANISHED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})


@dataclass(frozen=True, slots=True)
class Entry:
    """A file with a recording's name (or a pipe, socket or device with one)."""

    rel: bytes
    stat: StatKey
    flags: tuple[str, ...]


class Walk:
    """One walk below ``start``; its state stays in the thread between slices. ``close`` it in the end.

    ``unreadable`` holds folders that could not be listed, with why; ``foreign`` those that are another
    inbox's folder (``others``, as device and inode); ``ignored`` (path, reason) what was passed by, filled
    only with ``explain``. All are complete when the walk is.
    """

    def __init__(
        self,
        root: Root,
        rules: NameRules,
        start: bytes = b"",
        *,
        recursive: bool = True,
        explain: bool = False,
        others: frozenset[tuple[int, int]] = frozenset(),
        fs_type: str = "",
    ) -> None:
        self.foreign: list[bytes] = []
        self._others = others
        self._fs_type = fs_type
        self.unreadable: dict[bytes, str] = {}
        self.ignored: list[tuple[bytes, str]] = []
        self._root = root
        self._rules = rules
        self._recursive = recursive
        self._explain = explain
        self._pending = [start]
        self._entries = self._walk()

    def next_slice(self, limit: int = SLICE) -> list[Entry]:
        """Return the next entries; fewer than ``limit`` means that the walk is over.

        Raises:
            RootLost: the root itself cannot be listed.
        """
        return list(islice(self._entries, limit))

    def close(self) -> None:
        """Let go of all handles."""
        self._entries.close()

    def _walk(self) -> Generator[Entry, None, None]:
        while self._pending:
            folder = self._pending.pop()
            try:
                yield from self._list(folder)
            except OSError as error:
                if not folder:
                    raise RootLost(error.strerror or str(error)) from error
                if error.errno not in _VANISHED:
                    self.unreadable[folder] = error.strerror or str(error)

    def _list(self, folder: bytes) -> Iterator[Entry]:
        with self._root.directory(folder) as fd:
            if folder and self._others:
                st = os.fstat(fd)
                if (st.st_dev, st.st_ino) in self._others:
                    self.foreign.append(folder)
                    return
            if _has(fd, IGNORE_FILE):
                self._note(folder, "left_out")
                return
            with os.scandir(fd) as listing:
                for item in listing:
                    name = os.fsencode(item.name)
                    entry = self._consider(folder + b"/" + name if folder else name, item)
                    if entry is not None:
                        yield entry

    def _consider(self, rel: bytes, item: os.DirEntry[str]) -> Entry | None:
        if item.is_dir(follow_symlinks=False):
            refused = decide_folder(rel, self._rules)
            if refused is not None:
                self._note(rel, refused.reason)
            elif self._recursive:
                self._pending.append(rel)
            return None
        taken = decide_name(rel, self._rules)
        if isinstance(taken, Ignore):
            self._note(rel, taken.reason)
            return None
        if item.is_symlink():
            self._note(rel, "link")
            return None
        try:
            st = item.stat(follow_symlinks=False)
        except OSError:
            return None  # left while we looked, or cannot be stat'ed at the moment: the next scan sees
        if is_online_only(st, self._fs_type, lambda: None):
            self._note(rel, "online_only")
            return None
        return Entry(rel, stat_key(st), taken.flags)

    def _note(self, rel: bytes, reason: str) -> None:
        if self._explain:
            self.ignored.append((rel, reason))


def _has(fd: int, name: bytes) -> bool:
    with contextlib.suppress(OSError):
        os.stat(name, dir_fd=fd, follow_symlinks=False)
        return True
    return False
