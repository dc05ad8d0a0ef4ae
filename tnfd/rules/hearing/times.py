"""Times for a text that came without: from what an aligner found, or from phrases and length alone. Pure.

Every piece of the text gets a time; times rise, and lie within the cut. Never changes the text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from tnfd.model import Segment, Word
from tnfd.rules.columns import width
from tnfd.rules.formats.breaks import SENTENCE, break_cost
from tnfd.rules.hearing.phrases import Phrase, Sound
from tnfd.rules.hearing.tokens import Written

Span = tuple[float, float]

_LONGEST_WORD_S = 1.6  # of ten letters; what lasts longer was stretched over something else
_STRETCHED, _UNHEARD = 0.10, 0.20  # shares of an alignment's words at which nobody believes it
_FOUND = 0.7  # share of the words that can be said at all
_DOUBTED, _BUILT_ON = 2, 3  # words: at the end of what was found; the least that is found
_BESIDE_S = 0.15  # speech this near counts: soft beginnings
_PAUSE_S = 0.7  # a silence that ends a segment
_BAND = 30  # pieces to either side of where a phrase would end by length alone
_BORDER, _EMPTY, _CROSSED = (
    0.5,
    1.0,
    0.05,
)  # costs: a pause mid-phrase, a phrase of nothing, a sentence's end without


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a cut: the pieces [begin, end) of its text, said between two moments."""

    begin: int
    end: int
    start_s: float
    end_s: float


def split(written: Sequence[Written], sound: Sound, stretch: Stretch) -> tuple[Stretch, Stretch] | None:
    """Divide a stretch where speech and text both pause, near its middle; None: it holds one phrase."""
    part = sound.between(stretch.start_s, stretch.end_s)
    shares = _shared(written[stretch.begin : stretch.end], part.phrases)
    best: tuple[float, int, float] | None = None
    for n, (before, after) in enumerate(pairwise(part.phrases)):
        at = stretch.begin + shares[n][1]
        if not stretch.begin < at < stretch.end:
            continue
        left, right = written[at - 1], written[at]
        middle_s = (before.end_s + after.start_s) / 2
        share = (middle_s - stretch.start_s) / (stretch.end_s - stretch.start_s)
        worth = min(after.start_s - before.end_s, 1.0) + 0.5 * min(share, 1 - share)
        worth -= break_cost(left.text, right.text, spaced=right.spaced) / 20
        if best is None or worth > best[0]:
            best = (worth, at, middle_s)
    if best is None:
        return None
    _, at, middle_s = best
    return (
        Stretch(stretch.begin, at, stretch.start_s, middle_s),
        Stretch(at, stretch.end, middle_s, stretch.end_s),
    )


def rest(
    written: Sequence[Written], spans: Sequence[Span | None], sound: Sound, stretch: Stretch
) -> Stretch | None:
    """Return what an aligner lost, where it found the beginning of a stretch; None: nothing to build on.

    The last words before it lost its way are not believed.
    """
    own = written[stretch.begin : stretch.end]
    found = sum(span is not None for span in spans) - _DOUBTED
    kept = said = 0
    while kept < len(own) and said + len(own[kept].said) <= found:
        said += len(own[kept].said)
        kept += 1
    last = spans[said - 1] if said >= _BUILT_ON else None
    if last is None or not believable(own[:kept], spans[:said], sound):
        return None
    return Stretch(stretch.begin + kept, stretch.end, last[1], stretch.end_s)


def believable(written: Sequence[Written], spans: Sequence[Span | None], sound: Sound) -> bool:
    """Whether an aligner found these words where somebody speaks, each about as long as it should be."""
    known = [(piece, span) for piece, span in zip(written, _whole(written, spans), strict=True) if span]
    if not known:
        return False
    stretched = sum(span[1] - span[0] > _longest_s(piece) for piece, span in known)
    unheard = sum(not _heard(span, sound) for _, span in known)
    return stretched <= max(1, _STRETCHED * len(known)) and unheard <= _UNHEARD * len(known)


def aligned(written: Sequence[Written], spans: Sequence[Span | None], sound: Sound) -> list[Word] | None:
    """Return the words with an aligner's times (``spans``, one a spoken word); None: too few were found."""
    found = _whole(written, spans)
    sayable = sum(bool(piece.said) for piece in written)
    if 2 * sayable < len(written) or sum(span is not None for span in found) < _FOUND * sayable:
        return None
    return _filled(written, found, sound)


def _whole(written: Sequence[Written], spans: Sequence[Span | None]) -> list[Span | None]:
    """Give each piece the time from its first spoken word to its last."""
    found: list[Span | None] = []
    at = 0
    for piece in written:
        own = spans[at : at + len(piece.said)]
        at += len(piece.said)
        first, last = (own[0], own[-1]) if own else (None, None)
        found.append((first[0], last[1]) if first is not None and last is not None else None)
    return found


def estimated(written: Sequence[Written], sound: Sound) -> list[Word]:
    """Return the words spread over the phrases of speech by length; the text pauses where they end."""
    phrases = sound.phrases or (Phrase(0.0, sound.duration_s),)
    words: list[Word] = []
    for phrase, (begin, end) in zip(phrases, _shared(written, phrases), strict=True):
        words += _spread(written[begin:end], phrase.start_s, phrase.end_s)
    return words


def segments(written: Sequence[Written], words: Sequence[Word]) -> tuple[Segment, ...]:
    """Return one segment a sentence, or less where a silence lies within it."""
    found: list[Segment] = []
    begin = 0
    for end in range(1, len(words) + 1):
        if end < len(words):
            left, right = written[end - 1], written[end]
            quiet_s = words[end].start_s - words[end - 1].end_s
            sentence = break_cost(left.text, right.text, spaced=right.spaced) == SENTENCE
            if not sentence and quiet_s < _PAUSE_S:
                continue
        found.append(_segment(written[begin:end], words[begin:end]))
        begin = end
    return tuple(found)


def _segment(written: Sequence[Written], words: Sequence[Word]) -> Segment:
    text = written[0].text + "".join(f" {one.text}" if one.spaced else one.text for one in written[1:])
    return Segment(words[0].start_s, words[-1].end_s, text, None, tuple(words))


# -- alignment ------------------------------------------------------------------------------------------


def _longest_s(piece: Written) -> float:
    return _LONGEST_WORD_S + max(0, width(piece.text) - 10) / 8 + 0.5 * max(0, len(piece.said) - 1)


def _heard(span: Span, sound: Sound) -> bool:
    return sound.steady or sound.speech_between(span[0] - _BESIDE_S, span[1] + _BESIDE_S) > 0


def _filled(written: Sequence[Written], found: Sequence[Span | None], sound: Sound) -> list[Word]:
    """Place what has no time between its neighbours."""
    words: list[Word] = []
    last_s = 0.0
    at = 0
    while at < len(written):
        span = found[at]
        if span is not None:
            start_s = min(max(span[0], last_s), sound.duration_s)
            last_s = min(max(span[1], start_s), sound.duration_s)
            words.append(Word(start_s, last_s, written[at].text))
            at += 1
            continue
        end = at
        while end < len(written) and found[end] is None:
            end += 1
        after = found[end] if end < len(written) else None
        until_s = max(last_s, sound.duration_s if after is None else after[0])
        words += _between(written[at:end], last_s, until_s, sound, leans_back=after is None)
        last_s = words[-1].end_s
        at = end
    return words


def _between(
    written: Sequence[Written], start_s: float, end_s: float, sound: Sound, *, leans_back: bool
) -> list[Word]:
    """Spread pieces over the speech that lies in a hole, or over the time that they would need."""
    inside = [
        (max(phrase.start_s, start_s), min(phrase.end_s, end_s))
        for phrase in sound.phrases
        if phrase.end_s > start_s and phrase.start_s < end_s
    ]
    if inside:
        start_s, end_s = inside[0][0], inside[-1][1]
    need_s = sum(width(one.text) + 1 for one in written) / 12
    if end_s - start_s > 2 * need_s:
        start_s, end_s = (start_s, start_s + need_s) if leans_back else (end_s - need_s, end_s)
    return _spread(written, start_s, end_s)


# -- estimates ------------------------------------------------------------------------------------------


def _weight(piece: Written) -> float:
    """How long a piece takes, in columns: what has spoken forms is as long as they are."""
    spoken = sum(len(word) for word, _ in piece.said)
    return max(width(piece.text), spoken) + 1.0


def _spread(written: Sequence[Written], start_s: float, end_s: float) -> list[Word]:
    ends = list(accumulate(map(_weight, written)))
    if not ends:
        return []
    scale = (end_s - start_s) / ends[-1]
    return [
        Word(start_s + begin * scale, start_s + (end - 0.5) * scale, piece.text)
        for piece, begin, end in zip(written, [0.0, *ends], ends, strict=False)
    ]


def _shared(written: Sequence[Written], phrases: Sequence[Phrase]) -> list[tuple[int, int]]:
    """Return the pieces of each phrase: as long as it, and ending where the text would pause."""
    count = len(written)
    sums = [0.0, *accumulate(map(_weight, written))]
    rate = sums[-1] / max(sum(phrase.duration_s for phrase in phrases), 0.1) if count else 1.0
    borders = [
        break_cost(one.text, two.text, spaced=two.spaced) for one, two in pairwise(written)
    ]  # after each but the last
    ends_sentence = [0, *accumulate(int(cost == SENTENCE) for cost in borders), 0]
    best: dict[int, float] = {0: 0.0}
    back: list[dict[int, int]] = []
    spoken_s = 0.0
    for n, phrase in enumerate(phrases):
        spoken_s += phrase.duration_s
        last = n == len(phrases) - 1
        pause_s = 0.0 if last else phrases[n + 1].start_s - phrase.end_s
        reach = [count] if last else _near(sums, spoken_s * rate)
        found: dict[int, float] = {}
        origin: dict[int, int] = {}
        for end in reach:
            stop = _BORDER * min(1.0, 0.3 + pause_s) * borders[end - 1] / 10 if 0 < end < count else 0.0
            for begin, so_far in best.items():
                if begin > end:
                    continue
                cost = so_far + stop + _mismatch(sums[end] - sums[begin], rate, phrase.duration_s)
                if end > begin:
                    cost += _CROSSED * (ends_sentence[end - 1] - ends_sentence[begin])
                if cost < found.get(end, math.inf):
                    found[end], origin[end] = cost, begin
        if not found:  # a band that nothing reaches: let everything before go on
            found, origin = dict(best), {end: end for end in best}
        best = found
        back.append(origin)
    end = count if count in best else max(best)
    shares: list[tuple[int, int]] = []
    for origin in reversed(back):
        begin = origin[end]
        shares.append((begin, end))
        end = begin
    return shares[::-1]


def _near(sums: Sequence[float], target: float) -> range:
    """The places in the text within reach of a length."""
    low, high = 0, len(sums) - 1
    while low < high:
        middle = (low + high) // 2
        if sums[middle] < target:
            low = middle + 1
        else:
            high = middle
    return range(max(0, low - _BAND), min(len(sums) - 1, low + _BAND) + 1)


def _mismatch(weight: float, rate: float, duration_s: float) -> float:
    """What it costs to say so much in a phrase of that length."""
    if not weight:
        return _EMPTY * duration_s
    off_s = weight / rate - duration_s
    return off_s * off_s / (duration_s + 0.2)
