"""Phrases of speech found by loudness. Knows levels, never samples; decides where somebody may be speaking.

The threshold is the recording's own, between its quietest and its loudest moments. Loud sound that hardly
ever changes (a hum, a tone, dense music) is *steady*: it may hold speech, and nobody claims to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FRAME_S = 0.02  # a level's length
_FLOOR, _PEAK = 0.10, 0.95  # shares of the frames that are quieter than the floor, than the peak
_SILENT_DB = 30  # nothing below (70 dB under full scale) is speech
_FAINT_DB = 42  # a recording that never gets louder holds none
_NARROW_DB = 8  # a smaller distance of floor and peak is no speech, or speech without pauses
_SHARE = 0.35  # of the distance: from there on it is speech
_LEAST_DB, _MOST_DB = 5, 18  # that it lies above the floor
_BLOCK, _AROUND = 25, 150  # frames that share a threshold, and how far to either side it looks
_PAUSE_S = 0.20  # a shorter dip is within a word
_SHORTEST_S = 0.10  # a shorter burst is a click
_ATTACK_S, _RELEASE_S = 0.03, 0.06  # soft sounds before and after what is loud enough


@dataclass(frozen=True, slots=True)
class Phrase:
    """A stretch of speech without a pause; seconds from the start of the cut."""

    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Sound:
    """What was heard in a cut. ``steady``: loud, but nothing tells speech from hum or music."""

    duration_s: float
    phrases: tuple[Phrase, ...]
    steady: bool = False

    @property
    def speech_s(self) -> float:
        """Seconds in which somebody may be speaking."""
        return sum(phrase.duration_s for phrase in self.phrases)

    def speech_between(self, start_s: float, end_s: float) -> float:
        """Seconds of speech between two moments."""
        return sum(
            max(0.0, min(phrase.end_s, end_s) - max(phrase.start_s, start_s)) for phrase in self.phrases
        )

    def between(self, start_s: float, end_s: float) -> Sound:
        """The part between two moments; times stay those of the whole."""
        inside = (
            Phrase(max(phrase.start_s, start_s), min(phrase.end_s, end_s))
            for phrase in self.phrases
            if phrase.end_s > start_s and phrase.start_s < end_s
        )
        return Sound(self.duration_s, tuple(inside), self.steady)


def hear(levels: bytes, duration_s: float | None = None) -> Sound:
    """Find the phrases in a cut's levels: a byte for every 20 ms, decibels above -100 of full scale."""
    whole_s = len(levels) * FRAME_S if duration_s is None else duration_s
    smooth = _smoothed(levels)
    ordered = sorted(smooth)
    if not ordered or ordered[-1] < _FAINT_DB:
        return Sound(whole_s, ())
    # Digital silence would pull the floor down so far that any noise beside it became speech.
    audible = [level for level in ordered if level >= _SILENT_DB] or ordered
    floor, peak = _at(audible, _FLOOR), _at(audible, _PEAK)
    if len(audible) < _FLOOR * len(ordered) and len(audible) * FRAME_S < _SHORTEST_S:
        return Sound(whole_s, ())
    quiet = len(ordered) - len(audible) > _FLOOR * len(ordered)
    distance = peak - (_SILENT_DB if quiet else floor)
    if peak - floor < _NARROW_DB and not quiet:
        return Sound(whole_s, (Phrase(0.0, whole_s),), steady=True)
    base = min(floor, _SILENT_DB + _LEAST_DB) if quiet else floor
    threshold = base + min(max(_SHARE * distance, _LEAST_DB), _MOST_DB)
    near = _near_thresholds(smooth)
    loud = [level >= max(threshold, near[at // _BLOCK]) for at, level in enumerate(smooth)]
    return Sound(whole_s, _phrases(loud, whole_s))


def _near_thresholds(smooth: Sequence[float]) -> list[float]:
    """Thresholds for each block by what is around it: a joined recording's backgrounds differ."""
    found = []
    for at in range(0, len(smooth), _BLOCK):
        around = sorted(smooth[max(0, at - _AROUND) : at + _BLOCK + _AROUND])
        floor, peak = _at(around, _FLOOR), _at(around, _PEAK)
        found.append(floor + min(max(_SHARE * (peak - floor), _LEAST_DB), _MOST_DB))
    return found


def _smoothed(levels: bytes) -> list[float]:
    """Means of three: one loud frame is no speech."""
    padded = [*levels[:1], *levels, *levels[-1:]]
    return [(one + two + three) / 3 for one, two, three in zip(padded, padded[1:], padded[2:], strict=False)]


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _phrases(loud: Sequence[bool], whole_s: float) -> tuple[Phrase, ...]:
    runs: list[tuple[float, float]] = []
    begin: int | None = None
    for at, is_loud in enumerate([*loud, False]):
        if is_loud and begin is None:
            begin = at
        elif not is_loud and begin is not None:
            start_s, end_s = begin * FRAME_S, at * FRAME_S
            if runs and start_s - runs[-1][1] < _PAUSE_S:
                runs[-1] = (runs[-1][0], end_s)
            else:
                runs.append((start_s, end_s))
            begin = None
    found: list[Phrase] = []
    for start_s, end_s in runs:
        if end_s - start_s < _SHORTEST_S:
            continue
        start_s = max(0.0, start_s - _ATTACK_S, found[-1].end_s if found else 0.0)
        end_s = min(whole_s, end_s + _RELEASE_S)
        if end_s > start_s:
            found.append(Phrase(start_s, end_s))
    return tuple(found)
