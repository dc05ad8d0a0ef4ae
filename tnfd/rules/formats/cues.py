"""Cues: what a subtitle shows and when, by the conventions of the trade.

Owns the limits, the grouping of text into cues, and their times. Knows no file format: srt and vtt write down
what stands here. Where the engine gave no times, a segment is one cue, however long.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from tnfd.model import Gap, Transcript
from tnfd.rules.columns import width
from tnfd.rules.formats.breaks import CLINGING, COLUMNS, SENTENCE, break_cost
from tnfd.rules.formats.direction import directed
from tnfd.rules.formats.lines import Part, wrapped, wrapped_text
from tnfd.rules.formats.spoken import Piece, spoken
from tnfd.rules.formats.timing import LONGEST_MS, SHORTEST_MS, SPEED_CPS, Slot, placed

PAUSE_S = 1.0  # a silence that no cue reaches across
_NAME_COLUMNS = 30  # of a speaker's name inside the text

# The cost of a cue, on the scale of ``breaks``: what makes one better than another of the same text.
_CUE = 6.0  # one more of them
_CUT_OFF = 6.0  # goes on in the next one with a new sentence begun
_CROWDED = 6.0  # two sentences on two lines, neither ending with one
_HURRY = 3.0  # a second that is missing for reading
_SHORT = 20.0  # a second that is missing from the shortest
_SILENCE = 10.0  # a second of silence within
_ORPHAN, _SMALL = 0.3, 14  # a column that is missing from the smallest that looks like one
_UNEVEN = 8.0  # a full one; the square of what it holds, so that neighbours share their text


@dataclass(frozen=True, slots=True)
class Cue:
    """Some lines of text on the screen; milliseconds. ``speaker`` is None for the mark of a gap."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class _Draft:
    slot: Slot
    lines: tuple[str, ...]
    speaker: str | None


@dataclass(frozen=True, slots=True)
class _Run:
    """Pieces of one breath: one voice, no silence, no gap. ``free_s``: when the next run begins."""

    pieces: Sequence[Piece]
    free_s: float
    name: str = ""  # to be shown before the text
    always: bool = False  # in each of its cues, as another voice speaks between them


def cues(transcript: Transcript, *, named: bool = False) -> list[Cue]:
    """Return the cues in order, none overlapping another.

    Each has at most two lines of 42 columns, lasts at most 7 s, and as long as 17 columns a second and at
    least 1 s ask for, where the next one leaves the time. A gap's mark stands for as long as the gap.

    ``named``: begin the text with the speaker's name where the voice changes.
    """
    timed = transcript.timestamps != "none"
    gaps = sorted(transcript.gaps, key=lambda gap: gap.start_s)
    runs = _runs(list(spoken(transcript)), gaps, transcript.duration_s, timed=timed)
    drafts = [_gap_draft(gap) for gap in gaps]
    for run in _with_names(runs) if named else runs:
        groups = _groups(run) if timed else [(0, len(run.pieces))]
        drafts += [_draft(run, begin, end, timed=timed) for begin, end in groups]
    drafts.sort(key=lambda draft: draft.slot.start_ms)
    times = placed([draft.slot for draft in drafts], round(transcript.duration_s * 1000))
    return [
        Cue(start_ms, end_ms, directed(draft.lines), draft.speaker)
        for (start_ms, end_ms), draft in zip(times, drafts, strict=True)
    ]


# -- runs ------------------------------------------------------------------------------------------------


def _runs(pieces: Sequence[Piece], gaps: Sequence[Gap], duration_s: float, *, timed: bool) -> list[_Run]:
    if not pieces:
        return []
    borders = [0]
    waiting = [gap.start_s for gap in gaps]
    for at, (before, piece) in enumerate(pairwise(pieces), 1):
        while waiting and waiting[0] <= before.start_s:
            waiting.pop(0)
        apart = piece.start_s - before.end_s >= PAUSE_S if timed else piece.segment != before.segment
        if apart or piece.speaker != before.speaker or (waiting and waiting[0] <= piece.start_s):
            borders.append(at)
    found = [pieces[begin:end] for begin, end in pairwise([*borders, len(pieces)])]
    starts = [run[0].start_s for run in found[1:]]
    return [
        _Run(run, free_s if free_s >= run[-1].start_s else run[-1].until_s)
        for run, free_s in zip(found, [*starts, duration_s], strict=True)
    ]


def _with_names(runs: Sequence[_Run]) -> Iterator[_Run]:
    """Add names where the voice changes, and everywhere where two speak at once."""
    before: _Run | None = None
    for n, run in enumerate(runs):
        speaker = run.pieces[0].speaker
        near = [*([before] if before else []), *runs[n + 1 : n + 2]]
        crossed = any(_cross(run, other) for other in near)
        if speaker is not None and (crossed or before is None or before.pieces[0].speaker != speaker):
            short = speaker if width(speaker) < _NAME_COLUMNS else f"{speaker[: _NAME_COLUMNS // 2]}…"
            yield _Run(run.pieces, run.free_s, f"{short}:", crossed)
        else:
            yield run
        before = run


def _cross(one: _Run, two: _Run) -> bool:
    first, second = sorted((one.pieces, two.pieces), key=lambda pieces: pieces[0].start_s)
    return one.pieces[0].speaker != two.pieces[0].speaker and second[0].start_s < first[-1].start_s


# -- cues of a run ---------------------------------------------------------------------------------------


class _Measure:
    """What the search asks of a run's pieces again and again, added up once."""

    def __init__(self, run: _Run) -> None:
        pieces = run.pieces
        self.starts = [*(piece.start_s for piece in pieces), run.free_s]
        self.ends = [piece.end_s for piece in pieces]
        self.spaces = [int(piece.spaced) for piece in pieces]
        self.sums = [0, *accumulate(width(piece.text) + piece.spaced for piece in pieces)]
        self.breaks = _breaks(pieces)
        pauses = [max(0.0, after.start_s - before.end_s) for before, after in pairwise(pieces)]
        self.pauses = [0.0, *accumulate(pauses)]
        self.sentences = [0, *accumulate(int(cost == SENTENCE) for cost in self.breaks)]
        self._lead = width(run.name) + 1 if run.name else 0
        self._always = run.always
        self._reach = self._reaches(0)
        self._led = self._reaches(self._lead) if run.name else self._reach

    def lead(self, begin: int) -> int:
        """Columns before the text of a cue that begins there."""
        return self._lead if begin == 0 or self._always else 0

    def columns(self, begin: int, end: int) -> int:
        return self.sums[end] - self.sums[begin] - self.spaces[begin]

    def limit(self, begin: int) -> int:
        """How far two lines from there reach."""
        first = self._led[begin] if self.lead(begin) else self._reach[begin]
        return self._reach[first] if first < len(self._reach) else first

    def _reaches(self, lead: int) -> list[int]:
        """How far one line reaches from each piece; a name may have its line to itself."""
        count, end = len(self.spaces), 0
        reaches = []
        for begin in range(count):
            end = max(end, begin)
            while end < count and lead + self.columns(begin, end + 1) <= COLUMNS:
                end += 1
            reaches.append(max(end, begin if lead else begin + 1))
        return reaches


def _breaks(pieces: Sequence[Piece]) -> list[int]:
    """Return the cost of a break after each piece; the last is a sentence's end, whatever it is."""
    between = [break_cost(one.text, two.text, spaced=two.spaced) for one, two in pairwise(pieces)]
    return [*between, SENTENCE]


def _groups(run: _Run) -> list[tuple[int, int]]:
    """Divide a run into cues so that the sum of their costs is least."""
    measure, count = _Measure(run), len(run.pieces)
    best = [0.0] + [math.inf] * count
    began = [0] * (count + 1)
    for begin in range(count):
        for end in range(begin + 1, measure.limit(begin) + 1):
            if end > begin + 1 and measure.ends[end - 1] - measure.starts[begin] > LONGEST_MS / 1000:
                break
            cost = best[begin] + _cost(measure, begin, end, count)
            if cost < best[end]:
                best[end], began[end] = cost, begin
    borders = [count]
    while borders[-1]:
        borders.append(began[borders[-1]])
    return list(pairwise(reversed(borders)))


def _cost(measure: _Measure, begin: int, end: int, count: int) -> float:
    """Return what one cue costs."""
    columns = measure.lead(begin) + measure.columns(begin, end)
    slot_s = measure.starts[end] - measure.starts[begin]
    cost = _CUE + _UNEVEN * (columns / (2 * COLUMNS)) ** 2
    cost += _HURRY * max(0.0, columns / SPEED_CPS - slot_s)
    cost += _SHORT * max(0.0, SHORTEST_MS / 1000 - slot_s)
    cost += _SILENCE * (measure.pauses[end - 1] - measure.pauses[begin])
    sentences = measure.sentences[end - 1] > measure.sentences[begin]
    if sentences and columns > COLUMNS:
        cost += _CROWDED
    if end < count:
        after = measure.breaks[end - 1]
        pause_s = measure.pauses[end] - measure.pauses[end - 1]
        cost += max(0.0, after - _SILENCE * pause_s)
        if sentences and after != SENTENCE:
            cost += _CUT_OFF
    if end - begin < count:
        cost += _ORPHAN * max(0, _SMALL - columns)
    return cost


def _draft(run: _Run, begin: int, end: int, *, timed: bool) -> _Draft:
    pieces = run.pieces[begin:end]
    parts = [
        Part(piece.text, piece.spaced, width(piece.text), cost)
        for piece, cost in zip(pieces, _breaks(pieces), strict=True)
    ]
    if run.name and (begin == 0 or run.always):
        parts[0] = Part(parts[0].text, True, parts[0].columns, parts[0].cost)
        parts.insert(0, Part(run.name, False, width(run.name), CLINGING))
    lines = wrapped(parts)
    limit_ms = LONGEST_MS if timed else None
    return _Draft(_slot(pieces[0].start_s, pieces[-1].until_s, lines, limit_ms), lines, pieces[0].speaker)


def _gap_draft(gap: Gap) -> _Draft:
    lines = wrapped_text(f"[not transcribed: {gap.error}]")
    return _Draft(_slot(gap.start_s, gap.end_s, lines, None), lines, None)


def _slot(start_s: float, until_s: float, lines: Sequence[str], limit_ms: int | None) -> Slot:
    columns = sum(map(width, lines)) + len(lines) - 1
    need_ms = min(LONGEST_MS, max(SHORTEST_MS, math.ceil(columns * 1000 / SPEED_CPS)))
    return Slot(round(start_s * 1000), round(until_s * 1000), need_ms, limit_ms)
