"""Who speaks: names for what engines call A and B, and channels put side by side. Pure.

An engine's letters mean the same person within one answer only. They keep their meaning where the engine was
given samples of the voices; elsewhere the name says from where on it counts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tnfd.model import ChunkResult, Doubt, Gap, Segment, Transcript, Word
from tnfd.rules.formats.breaks import SENTENCE, break_cost
from tnfd.rules.text import clock, join

MOST_VOICES = 4  # that an engine takes (the SDK's known_speaker_names)
_SHORTEST_S, _LONGEST_S = 2.0, 10.0  # of a sample of a voice (the SDK's known_speaker_references)
_EDGE_S = 0.1
_PAUSE_S = 0.5  # a silence that ends somebody's turn


@dataclass(frozen=True, slots=True)
class Sample:
    """Where in a cut one person alone is heard; seconds."""

    speaker: str
    start_s: float
    end_s: float


def named(result: ChunkResult, known: Collection[str], *, start_s: float, first: bool) -> ChunkResult:
    """Return an answer with names for its speakers: the known ones, else ``Speaker A``.

    ``first``: the answer whose letters all others are measured by. In another one a letter means somebody
    else, and the name says where the cut begins.
    """

    def name_of(label: str | None) -> str | None:
        if label is None or label in known:
            return label
        bare = label if label.lower().startswith("speaker") else f"Speaker {label}"
        return bare if first or bare in known else f"{bare} (from {clock(start_s)})"

    segments = tuple(replace(one, speaker=name_of(one.speaker)) for one in result.segments)
    return replace(result, segments=segments)


def samples_of(result: ChunkResult, known: Collection[str]) -> list[Sample]:
    """Return the best sample of each voice that is not known yet, the most talkative first."""
    spoken: dict[str, float] = {}
    best: dict[str, Sample] = {}
    for at, segment in enumerate(result.segments):
        if segment.speaker is None or segment.speaker in known:
            continue
        spoken[segment.speaker] = spoken.get(segment.speaker, 0.0) + segment.end_s - segment.start_s
        beside = [result.segments[n] for n in (at - 1, at + 1) if 0 <= n < len(result.segments)]
        alone = all(
            one.end_s <= segment.start_s + 0.05 or one.start_s >= segment.end_s - 0.05 for one in beside
        )
        start_s, end_s = segment.start_s + _EDGE_S, segment.end_s - _EDGE_S
        end_s = min(end_s, start_s + _LONGEST_S - _EDGE_S)
        held = best.get(segment.speaker)
        longer = held is None or end_s - start_s > held.end_s - held.start_s
        if alone and end_s - start_s >= _SHORTEST_S and longer:
            best[segment.speaker] = Sample(segment.speaker, start_s, end_s)
    return [best[one] for one in sorted(best, key=lambda one: -spoken[one])][: MOST_VOICES - len(known)]


def has_speakers(segments: Sequence[Segment]) -> bool:
    """Whether everything that was said has somebody who said it."""
    return all(segment.speaker is not None for segment in segments if segment.text.strip())


def channel_name(channel: int, names: Sequence[str]) -> str:
    """Return the name of a channel's speaker."""
    return names[channel] if channel < len(names) else f"Channel {channel + 1}"


def by_channel(transcript: Transcript, channels: int, names: Sequence[str]) -> Transcript:
    """Fold a transcript of channels that were read one after the other into one of all at once."""
    length_s = transcript.duration_s / channels
    turns: list[Segment] = []
    for segment in transcript.segments:
        turns += _turns(segment, length_s, channels, names)
    turns.sort(key=lambda one: (one.start_s, one.end_s))
    gaps = {
        Gap(*span, gap.error)
        for gap in transcript.gaps
        for span in _folded(gap.start_s, gap.end_s, length_s, channels)
    }
    doubts = {
        Doubt(doubt.flag, *span)
        for doubt in transcript.doubts
        for span in _folded(doubt.start_s, doubt.end_s, length_s, channels)
    }
    return replace(
        transcript,
        text=join(turn.text for turn in turns),
        segments=tuple(turns),
        duration_s=length_s,
        gaps=tuple(sorted(gaps, key=lambda one: (one.start_s, one.end_s, one.error))),
        doubts=tuple(sorted(doubts, key=lambda one: (one.start_s, one.end_s, one.flag))),
    )


def _folded(start_s: float, end_s: float, length_s: float, channels: int) -> list[tuple[float, float]]:
    found = []
    for channel in range(channels):
        low, high = max(start_s - channel * length_s, 0.0), min(end_s - channel * length_s, length_s)
        if high > low:
            found.append((low, high))
    return found


def _turns(segment: Segment, length_s: float, channels: int, names: Sequence[str]) -> list[Segment]:
    """Divide a segment where its speaker pauses, and move it to the time of its channel."""
    channel = min(int(segment.start_s // length_s), channels - 1) if length_s > 0 else 0
    origin_s = channel * length_s

    def moved(start_s: float, end_s: float, text: str, words: tuple[Word, ...] | None) -> Segment:
        low = min(max(start_s - origin_s, 0.0), length_s)
        high = min(max(end_s - origin_s, low), length_s)
        return Segment(low, high, text, channel_name(channel, names), words)

    def placed(word: Word) -> Word:
        low = min(max(word.start_s - origin_s, 0.0), length_s)
        return Word(low, min(max(word.end_s - origin_s, low), length_s), word.text)

    words = segment.words or ()
    if "".join(segment.text.split()) != "".join("".join(word.text.split()) for word in words):
        own = tuple(map(placed, words)) or None
        return [moved(segment.start_s, segment.end_s, segment.text, own)]
    borders = [0]
    for at, (left, right) in enumerate(pairwise(words), 1):
        ends = break_cost(left.text, right.text, spaced=True) == SENTENCE
        if right.start_s - left.end_s >= _PAUSE_S or ends:
            borders.append(at)
    found = []
    for begin, end in pairwise([*borders, len(words)]):
        part = words[begin:end]
        text = join(word.text for word in part)
        found.append(moved(part[0].start_s, part[-1].end_s, text, tuple(map(placed, part))))
    return found
