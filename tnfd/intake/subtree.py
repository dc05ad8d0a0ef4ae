"""What holds in a folder, by the ``.tnfd.toml`` files there and above. Blocking."""

from __future__ import annotations

import os
from collections.abc import Collection

from tnfd.errors import ConfigError, Fault
from tnfd.model import JobSettings, StatKey
from tnfd.ports.claims import Layers, Subtrees
from tnfd.root import Root
from tnfd.rules.ignore import SETTINGS_FILE

_MOST_BYTES = 64 * 1024


class FolderSettings:
    """Remembers what it has read for as long as a file's stat stays the same."""

    def __init__(self, root: Root, subtrees: Subtrees) -> None:
        self._root = root
        self._subtrees = subtrees
        self._read: dict[bytes, tuple[StatKey, bytes]] = {}

    def of_all(self, folders: Collection[bytes]) -> dict[bytes, JobSettings | ConfigError]:
        """Return what holds in each folder, or every mistake that stands in its file and in those above.

        A file that cannot be read counts as one with a mistake: its content is no TOML.
        """
        seen: dict[bytes, Layers] = {}
        found: dict[bytes, JobSettings | ConfigError] = {}
        for folder in folders:
            try:
                found[folder] = self._subtrees.resolve(self._of(folder, seen))
            except ConfigError as error:
                found[folder] = error
        return found

    def _of(self, folder: bytes, seen: dict[bytes, Layers]) -> Layers:
        if folder not in seen:
            above = self._of(folder.rpartition(b"/")[0], seen) if folder else ()
            content = self._content(folder + b"/" + SETTINGS_FILE if folder else SETTINGS_FILE)
            seen[folder] = above if content is None else (*above, (folder, content))
        return seen[folder]

    def _content(self, rel: bytes) -> bytes | None:
        try:
            st = self._root.look(rel)
            if st is None:
                self._read.pop(rel, None)
                return None
            key, known = StatKey.of(st), self._read.get(rel)
            if known is not None and known[0] == key:
                return known[1]
            fd, _ = self._root.open_source(rel)
            with os.fdopen(fd, "rb") as file:
                content = file.read(_MOST_BYTES + 1)
        except (OSError, Fault):
            return b"= this file cannot be read"
        if len(content) > _MOST_BYTES:
            return b"= this file is too large"
        self._read[rel] = key, content
        return content
