"""When cues are shown: from when their words are said, and how long they take to read.

Owns the limits of time. Cues follow one another without overlap; where one is too short to be read, its
neighbours give what they can spare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SPEED_CPS = 17  # columns a second that people read (facts of the trade: 15 to 20)
SHORTEST_MS, LONGEST_MS = 1000, 7000
GAP_MS = 80  # between two cues: two frames at 25 a second, so that the change is seen
SHIFT_MS = 400  # how far a cue may begin from its words, for the sake of reading
_BRIDGED_MS = 500  # a shorter pause between two cues would flicker
_FLOOR_MS = 200  # what a cue gets even where there is no time at all


@dataclass(frozen=True, slots=True)
class Slot:
    """What a cue asks for: said from, shown until, time to read, and the longest it may be shown."""

    start_ms: int
    until_ms: int
    need_ms: int
    limit_ms: int | None


def placed(slots: Sequence[Slot], duration_ms: int) -> list[tuple[int, int]]:
    """Return the start and end of each; ``slots`` are sorted by start, ``duration_ms`` is the recording's."""
    if not slots:
        return []
    starts = _apart(slots)
    bound_ms = max(duration_ms, slots[-1].until_ms, starts[-1] + _FLOOR_MS)
    _lead(slots, starts, bound_ms)
    _lag(slots, starts, bound_ms)
    latest = [*(start_ms - GAP_MS for start_ms in starts[1:]), bound_ms]
    return [
        (start_ms, _end(slot, start_ms, latest_ms))
        for slot, start_ms, latest_ms in zip(slots, starts, latest, strict=True)
    ]


def _end(slot: Slot, start_ms: int, latest_ms: int) -> int:
    end_ms = max(slot.until_ms, start_ms + slot.need_ms)
    if latest_ms - end_ms < _BRIDGED_MS:
        end_ms = latest_ms
    return end_ms if slot.limit_ms is None else min(end_ms, start_ms + slot.limit_ms)


def _apart(slots: Sequence[Slot]) -> list[int]:
    """Return the starts, each late enough for the one before to be there at all."""
    starts: list[int] = []
    for slot in slots:
        first_ms = starts[-1] + _FLOOR_MS + GAP_MS if starts else 0
        starts.append(max(slot.start_ms, first_ms))
    return starts


def _lead(slots: Sequence[Slot], starts: list[int], bound_ms: int) -> None:
    """Begin cues earlier that have too little time, where the one before has time to spare."""
    for n in range(len(slots) - 1, -1, -1):
        end_ms = starts[n + 1] - GAP_MS if n + 1 < len(slots) else bound_ms
        short_ms = slots[n].need_ms - (end_ms - starts[n])
        spare_ms = starts[n] - GAP_MS - starts[n - 1] - slots[n - 1].need_ms if n else starts[0]
        starts[n] -= max(0, min(short_ms, spare_ms, SHIFT_MS))


def _lag(slots: Sequence[Slot], starts: list[int], bound_ms: int) -> None:
    """Let cues end later that still have too little time, where the one behind has time to spare."""
    for n in range(len(slots) - 1):
        short_ms = slots[n].need_ms - (starts[n + 1] - GAP_MS - starts[n])
        end_ms = starts[n + 2] - GAP_MS if n + 2 < len(slots) else bound_ms
        spare_ms = end_ms - starts[n + 1] - slots[n + 1].need_ms
        starts[n + 1] += max(0, min(short_ms, spare_ms, SHIFT_MS))
