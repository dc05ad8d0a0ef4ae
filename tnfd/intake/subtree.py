"""Reads the ``.tnfd.toml`` files that hold for a folder. Blocking; runs in the inbox's thread."""

from __future__ import annotations

import os
from collections.abc import Collection

from tnfd.errors import Fault
from tnfd.model import StatKey
from tnfd.ports.claims import Layers
from tnfd.root import Root
from tnfd.rules.ignore import SETTINGS_FILE

_MOST_BYTES = 64 * 1024


class SettingsFiles:
    """Remembers what it has read for as long as a file's stat stays the same."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._read: dict[bytes, tuple[StatKey, bytes]] = {}

    def of_all(self, folders: Collection[bytes]) -> dict[bytes, Layers]:
        """For each folder what stands in its file and in those above, the inbox's own first.

        One that cannot be read counts as one with a mistake: its content is no TOML.
        """
        seen: dict[bytes, Layers] = {}
        for folder in folders:
            self._of(folder, seen)
        return seen

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
