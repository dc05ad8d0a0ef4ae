"""Tells from events which files came by a rename: a temporary file made for them left in the same moment.

Remembers what has just left, and nothing else. A rename from outside of the inbox looks like any new file.
"""

from __future__ import annotations

from collections.abc import Iterable

from tnfd.intake.watch import Hint
from tnfd.rules.ignore import destinations, origins

_MOMENT_S = 0.5  # the two events of one rename may come in two batches


class Moves:
    """Fed with each batch of hints, in order. ``now`` is in monotonic seconds."""

    def __init__(self) -> None:
        self._before: set[tuple[bytes, bytes]] = set()
        self._before_at = 0.0

    def take(self, hints: Iterable[Hint], now: float) -> set[bytes]:
        """Return the paths of a batch to which a temporary file was renamed."""
        hints = list(hints)
        left = {mark for hint in hints if hint.kind == "deleted" for mark in origins(hint.rel)}
        known = left | self._before if now - self._before_at < _MOMENT_S else left
        self._before, self._before_at = left, now
        if not known:
            return set()
        added = (hint.rel for hint in hints if hint.kind == "added")
        return {rel for rel in added if not known.isdisjoint(destinations(rel))}
