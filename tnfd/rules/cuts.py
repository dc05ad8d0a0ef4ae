"""Where a recording is cut: how long its pieces should be, what is still to be cut, and the quietest place.

Owns every decision about lengths; knows samples, seconds and levels, no audio and no files. Both sides of the
media children read it: the daemon says what is owed, the child finds the places.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from tnfd.model import SAMPLE_RATE_HZ, Cut, Encoding

LONGEST_S = 600.0  # a piece: what is lost with one answer, and how far a model's own clock may drift
SHORTEST_S = 60.0  # of pieces that are made to keep requests busy: less would cost context and time
TINIEST_S = 20.0  # of pieces that a server's limit asks for; what is refused at this length cannot be done
OVERLAP_S = 2.0  # of two pieces that are parted in the middle of sound
QUIET_S = 0.3  # a cut lies in the middle of the quietest stretch of this length
STEP_S = 0.05  # in steps of this
OVERLAP = round(OVERLAP_S * SAMPLE_RATE_HZ)

# Each round of pieces may take this many times as long as the one before: while the server works on one, a
# core encodes the next (measured 2026-11: a core encodes 110 s a second, five requests take 50 s a second).
_GROWTH = 1.8
_MARGIN_S = 2.0  # servers count a little more than was sent
# Bytes a second at most. Opus at 24 kbit/s takes 2,900 for speech and was never seen to take 6,600.
_BYTES_PER_S: dict[Encoding, float] = {"opus": 8_000.0, "pcm": 32_000.0, "wav": 32_000.0}
_WINDOW_S = (8.0, 20.0)  # the search for quiet, by the length of the piece
_WINDOW_PART = 0.2

# Measured 2026-11: pauses in clean speech lie 20 to 40 dB below its level; with noise 10 dB below, a quarter
# of all cuts fell into words.
_QUIET_RATIO = 0.2  # 14 dB
_SILENT = 8.0  # of 32,768


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the pieces: seconds a request may hold, and how many requests may be in flight."""

    max_s: float
    slots: int = 1


def limits_for(
    encoding: Encoding, *, max_s: float, max_bytes: int, slots: int, learned_s: float | None = None
) -> Limits:
    """Bring an engine's limits, and one that it taught us, to one length."""
    by_bytes_s = max_bytes / _BYTES_PER_S[encoding]
    longest_s = min(max_s - _MARGIN_S, by_bytes_s, LONGEST_S)
    if learned_s is not None:
        longest_s = min(longest_s, learned_s)
    return Limits(max(longest_s, min(TINIEST_S, max_s, by_bytes_s)), max(1, slots))


# -- lengths ---------------------------------------------------------------------------------------


def plan_lengths(duration_s: float | None, limits: Limits) -> Iterator[float]:
    """Give the wanted length of piece after piece, without end; the last ones repeat.

    Rounds of as many pieces as requests may be in flight: the first short, so that all requests are busy at
    once, each next one longer, and the last ones equal, so that all end together. Where only one request may
    be in flight, as few pieces as possible.
    """
    longest_s = max(min(limits.max_s, LONGEST_S) - window_s(limits.max_s), limits.max_s / 2)
    slots = limits.slots
    if duration_s is None:
        yield from _growing(longest_s, slots)
        return
    if slots == 1 or duration_s < 2 * SHORTEST_S:
        pieces = max(1, math.ceil(duration_s / longest_s))
        yield from _repeated(duration_s / pieces, longest_s, pieces)
        return
    left_s, length_s = duration_s, min(SHORTEST_S, longest_s)
    while True:
        rounds = max(1, math.ceil(left_s / (slots * longest_s)))
        even_s = left_s / (slots * rounds)
        if even_s <= length_s * _GROWTH**0.5:
            shortest_s = min(SHORTEST_S, longest_s)
            pieces = slots * rounds if even_s >= shortest_s else max(1, math.ceil(left_s / shortest_s))
            yield from _repeated(left_s / pieces, longest_s, pieces)
            return
        for _ in range(slots):
            yield length_s
        left_s -= slots * length_s
        length_s = min(length_s * _GROWTH, longest_s)


def _growing(longest_s: float, slots: int) -> Iterator[float]:
    length_s = min(SHORTEST_S, longest_s)
    while True:
        for _ in range(slots):
            yield length_s
        length_s = min(length_s * _GROWTH, longest_s)


def _repeated(length_s: float, longest_s: float, pieces: int) -> Iterator[float]:
    for _ in range(pieces):
        yield length_s
    while True:  # the header promised too little
        yield min(max(length_s, SHORTEST_S), longest_s)


def window_s(length_s: float) -> float:
    """How long a stretch is searched for quiet around the end of a piece of this length."""
    return min(max(_WINDOW_PART * length_s, _WINDOW_S[0]), _WINDOW_S[1], length_s / 2)


@dataclass(frozen=True, slots=True)
class Aim:
    """Where a piece shall end: at the quietest place between two samples; ``latest`` at the latest."""

    earliest: int
    latest: int


class Lengths:
    """The ends of the pieces of one stretch [start, end); ``end`` None: as long as there is audio.

    Ends are aimed at places that do not depend on where earlier ones came to lie, so that small differences
    never add up.
    """

    def __init__(self, start: int, end: int | None, duration_s: float | None, limits: Limits) -> None:
        self._end = end
        self._limits = limits
        whole_s = duration_s if end is None else (end - start) / SAMPLE_RATE_HZ
        # A stretch in the middle is cut as evenly as its limit asks for: the rest keeps the requests busy.
        self._lengths = plan_lengths(whole_s, limits if end is None else Limits(limits.max_s))
        self._at_s = 0.0 if end is None else start / SAMPLE_RATE_HZ
        self._promised_s = math.inf if duration_s is None else duration_s
        self._length_s = 0.0

    def aim(self, start: int) -> Aim | None:
        """Say where the piece that begins with ``start`` ends; None: with the stretch."""
        start_s = start / SAMPLE_RATE_HZ
        longest_s = self._limits.max_s
        if self._end is not None and self._end - start <= round(longest_s * SAMPLE_RATE_HZ):
            return None
        while self._at_s <= start_s + self._length_s / 2 or not self._length_s:
            self._length_s = next(self._lengths)
            self._at_s += self._length_s
        search_s = window_s(self._at_s - start_s)
        end_s = self._at_s
        if self._end is None and self._promised_s - end_s < search_s:
            end_s = start_s + longest_s  # the last one: the header may promise a little too little
        latest_s = min(end_s + search_s / 2, start_s + longest_s - OVERLAP_S / 2)
        earliest_s = max(latest_s - search_s, start_s + (latest_s - start_s) / 2)
        return Aim(round(earliest_s * SAMPLE_RATE_HZ), round(latest_s * SAMPLE_RATE_HZ))


# -- the quietest place ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """A place to cut: steps from the beginning of the search; ``quiet``: nothing is said there."""

    step: int
    quiet: bool


def quietest(powers: Sequence[float]) -> Place:
    """Find the middle of the quietest QUIET_S; ``powers`` are the mean squares of steps of STEP_S.

    It is quiet if it lies far below the level around it, or is as good as silent.
    """
    width = min(round(QUIET_S / STEP_S), len(powers))
    sums = [0.0]
    for power in powers:
        sums.append(sums[-1] + power)
    means = [(sums[at + width] - sums[at]) / width for at in range(len(powers) - width + 1)]
    middle = (len(means) - 1) / 2
    # Among equals the one in the middle: the lengths then stay as they were wanted.
    best = min(range(len(means)), key=lambda at: (max(means[at], 1.0), abs(at - middle)))
    level = math.sqrt(max(means[best], 0.0))
    around = math.sqrt(sums[-1] / max(len(powers), 1))
    return Place(best + width // 2, level <= max(_SILENT, _QUIET_RATIO * around))


# -- what is owed ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stretch:
    """Audio that no piece covers: samples [start, end), None: to the end of the recording.

    ``torn_start`` and ``torn_end``: the neighbour there was parted from it in the middle of sound.
    """

    start: int
    end: int | None
    torn_start: bool = False
    torn_end: bool = False


def uncovered(cuts: Collection[Cut], samples: int | None) -> list[Stretch]:
    """Name what lies between the cuts, and behind them.

    ``samples`` is the length of the recording; None: not known yet, so that anything may follow.
    """
    found: list[Stretch] = []
    start, torn = 0, False
    for cut in sorted(cuts, key=lambda cut: (cut.start_sample, cut.end_sample)):
        reaches = cut.start_sample + (OVERLAP if cut.torn_start else 0)
        begins = start - (OVERLAP if torn else 0)
        if cut.start_sample > (begins if torn else start):
            found.append(Stretch(max(begins, 0), reaches, torn, cut.torn_start))
        if cut.end_sample >= start:
            start, torn = cut.end_sample, cut.torn_end
    if samples is None or start < samples:
        found.append(Stretch(max(start - (OVERLAP if torn else 0), 0), samples, torn))
    return found


def expected(duration_s: float | None, limits: Limits) -> int:
    """About how many pieces a recording will have; 0: nobody knows."""
    count, end_s = 0, 0.0
    if duration_s is not None:
        for length_s in plan_lengths(duration_s, limits):
            count, end_s = count + 1, end_s + length_s
            if end_s >= duration_s - 1.0:
                break
    return count


def shorter_s(cut: Cut, limit_s: float | None) -> float | None:
    """How long pieces may be in place of one that was refused as too large; None: it cannot get smaller.

    ``limit_s`` is what the server named, if it did.
    """
    if cut.duration_s <= TINIEST_S:
        return None
    half_s = cut.duration_s / 2
    if limit_s is not None and TINIEST_S <= limit_s < cut.duration_s:
        return max(limit_s - _MARGIN_S, min(half_s, TINIEST_S))
    return max(half_s, TINIEST_S)
