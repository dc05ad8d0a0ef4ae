"""What two neighbouring pieces both say of the audio that they share: found, and left out once.

Pure. Tokens are words, or characters of scripts that put no space between words; how they are written, in
which case and with which marks, makes no difference.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tnfd.model import ChunkResult, Segment
from tnfd.rules.text import UNSPACED, join

_TOKEN = re.compile(rf"{UNSPACED}|(?:(?!{UNSPACED})\w)(?:['’\-]?(?!{UNSPACED})\w)*")
_TOKENS_A_SECOND = 12.0  # more is never said; characters count, too
_SLACK_S = 1.0  # engines are this wrong about times near the ends of what they get


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a result: its folded text, the segment and the characters [start, end) that it stands in.

    ``at_s`` is about when it is said; None: nobody knows.
    """

    text: str
    segment: int
    start: int
    end: int
    at_s: float | None = None


def common_run(left: Sequence[str], right: Sequence[str]) -> tuple[int, int, int]:
    """Find the longest run that both have: where it begins in each, and its length (0: there is none).

    Among equals the one nearest to where the two sides meet.
    """
    best = (0, 0, 0)
    before = [0] * (len(right) + 1)
    for i, one in enumerate(left, 1):
        row = [0] * (len(right) + 1)
        for j, two in enumerate(right, 1):
            if one != two:
                continue
            row[j] = before[j - 1] + 1
            start = (i - row[j], j - row[j], row[j])
            if _rank(start, len(left)) > _rank(best, len(left)):
                best = start
        before = row
    return best


def _rank(run: tuple[int, int, int], length: int) -> tuple[int, int]:
    at, other, count = run
    return count, -(length - at - count) - other


def without_overlap(
    left: ChunkResult, right: ChunkResult, *, left_s: float, overlap_s: float
) -> tuple[ChunkResult, ChunkResult]:
    """Leave out of two neighbours what both say; times are relative to each piece.

    ``left_s`` is the length of the left one, whose last ``overlap_s`` seconds the right one begins with. What
    the two share is kept once, and what only one of them makes of the cut word beside it is left out. Where
    they share nothing, known times decide; else all is kept, as doubled is better than lost.
    """
    tail = _within(_tokens(left), after_s=left_s - overlap_s - _SLACK_S, overlap_s=overlap_s, last=True)
    head = _within(_tokens(right), before_s=overlap_s + _SLACK_S, overlap_s=overlap_s, last=False)
    at, other, count = common_run([one.text for one in tail], [one.text for one in head])
    if count:
        keep_until, keep_from = tail[at + count - 1], head[other + count - 1]
        return _cut_after(left, keep_until), _cut_before(right, keep_from, inclusive=True)
    middle_s = overlap_s / 2
    beyond = [one for one in tail if one.at_s is not None and one.at_s > left_s - middle_s]
    within = [one for one in head if one.at_s is not None and one.at_s <= middle_s]
    if beyond and beyond[0] is not tail[0]:
        left = _cut_after(left, tail[tail.index(beyond[0]) - 1])
    if within:
        right = _cut_before(right, within[-1], inclusive=True)
    return left, right


def _segments(result: ChunkResult) -> tuple[Segment, ...]:
    """A result's segments, or one for all of its text."""
    return result.segments or (Segment(0.0, 0.0, result.text),)


def _tokens(result: ChunkResult) -> list[Token]:
    found: list[Token] = []
    for number, segment in enumerate(_segments(result)):
        spans = [match.span() for match in _TOKEN.finditer(segment.text)]
        times = _times(segment, len(spans), known=bool(result.segments))
        found += [
            Token(segment.text[start:end].casefold(), number, start, end, at_s)
            for (start, end), at_s in zip(spans, times, strict=True)
        ]
    return found


def _times(segment: Segment, count: int, *, known: bool) -> list[float | None]:
    """The middle of each token: of its word, where there are as many, else by its place in the segment."""
    if not known:
        return [None] * count
    words = [word for word in segment.words or () if _TOKEN.search(word.text)]
    if len(words) == count:
        return [(word.start_s + word.end_s) / 2 for word in words]
    span_s = segment.end_s - segment.start_s
    return [segment.start_s + span_s * (n + 0.5) / count for n in range(count)]


def _within(
    tokens: list[Token], *, overlap_s: float, last: bool,
    after_s: float = float("-inf"), before_s: float = float("inf"),
) -> list[Token]:  # fmt: skip
    """The tokens that may lie in the shared audio; none more than can be said in it."""
    most = round((overlap_s + _SLACK_S) * _TOKENS_A_SECOND)
    near = tokens[-most:] if last else tokens[:most]
    return [one for one in near if one.at_s is None or after_s <= one.at_s <= before_s]


def _cut_after(result: ChunkResult, token: Token) -> ChunkResult:
    """Leave out what follows a token, but for the marks right behind it."""
    segments = _segments(result)
    whole = segments[token.segment]
    marks = re.match(r"[^\w\s]*", whole.text[token.end :])
    end = token.end + (len(marks[0]) if marks else 0)
    if token.segment == len(segments) - 1 and not whole.text[end:].strip():
        return result
    kept = _trimmed(whole, whole.text[:end], drop_words_after=token)
    return _rebuilt(result, (*segments[: token.segment], kept))


def _cut_before(result: ChunkResult, token: Token, *, inclusive: bool) -> ChunkResult:
    """Leave out what precedes a token, and it too if ``inclusive``, with the marks and spaces behind it."""
    segments = _segments(result)
    whole = segments[token.segment]
    start = token.end if inclusive else token.start
    text = re.sub(r"^[^\w\s]*\s*", "", whole.text[start:])
    rest = segments[token.segment + 1 :]
    if not text:
        return _rebuilt(result, rest)
    return _rebuilt(result, (_trimmed(whole, text, drop_words_before=token), *rest))


def _trimmed(
    segment: Segment,
    text: str,
    *,
    drop_words_after: Token | None = None,
    drop_words_before: Token | None = None,
) -> Segment:
    """The segment with less text, and only the words that are still in it."""
    words = segment.words
    count = sum(1 for _ in _TOKEN.finditer(text))
    start_s, end_s = segment.start_s, segment.end_s
    if words:
        spoken = [n for n, word in enumerate(words) if _TOKEN.search(word.text)]
        if drop_words_after is not None and len(spoken) > count:
            words = words[: spoken[count]]
        elif drop_words_before is not None and len(spoken) > count:
            words = words[spoken[len(spoken) - count] :]
        if words:
            start_s, end_s = max(start_s, words[0].start_s), min(end_s, words[-1].end_s)
    elif drop_words_before is not None and drop_words_before.at_s is not None:
        start_s = min(max(start_s, drop_words_before.at_s), end_s)
    elif drop_words_after is not None and drop_words_after.at_s is not None:
        end_s = max(min(end_s, drop_words_after.at_s), start_s)
    return replace(segment, text=text, words=words, start_s=start_s, end_s=max(start_s, end_s))


def _rebuilt(result: ChunkResult, segments: tuple[Segment, ...]) -> ChunkResult:
    text = join(segment.text for segment in segments)
    return replace(result, text=text, segments=segments if result.segments else ())
