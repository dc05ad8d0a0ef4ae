"""Puts the results of a recording's cuts together into one transcript.

Pure: offsets times by samples, joins text, leaves out what neighbours both say, adds up languages and flags,
and turns what is missing into gaps. Never drops a stretch silently.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tnfd.model import SAMPLE_RATE_HZ, ChunkResult, Cut, Doubt, Gap, Segment, Timestamps, Transcript, Word
from tnfd.rules.overlap import without_overlap
from tnfd.rules.text import join

# Strongest first.
_STRENGTH: tuple[Timestamps, ...] = ("engine", "aligned", "estimated", "none")

UNEXPLAINED = "internal.bug"  # the code of a missing result for which nobody recorded an error


def stitch(
    cuts: Sequence[Cut],
    results: Mapping[int, ChunkResult],
    *,
    duration_s: float,
    errors: Mapping[int, str] | None = None,
    gaps: Sequence[Gap] = (),
    flags: Sequence[str] = (),
) -> Transcript:
    """Return the whole recording's transcript.

    ``results`` and ``errors`` (codes) are by ``Cut.index``; a cut without a result becomes a gap. ``gaps``
    are stretches known to be missing beside the cuts, ``flags`` those of the recording itself.
    """
    codes = errors or {}
    ordered = sorted(cuts, key=lambda cut: (cut.start_sample, cut.end_sample))
    found = _parted([(cut, results[cut.index]) for cut in ordered if cut.index in results])
    missing = [
        Gap(*_only(cut, ordered, results), codes.get(cut.index, UNEXPLAINED))
        for cut in ordered
        if cut.index not in results
    ]
    text = join(result.text for _, result in found)
    said = [flag for _, result in found for flag in _flags(result)]
    if text:  # it was said of silent pieces alone
        said = [flag for flag in said if flag != "no_speech"]
        flags = [flag for flag in flags if flag != "no_speech"]
    return Transcript(
        text=text,
        segments=tuple(segment for cut, result in found for segment in _placed(cut, result)),
        duration_s=duration_s,
        languages=_unique(language for _, result in found for language in result.languages),
        timestamps=_weakest([result for _, result in found]),
        flags=_unique([*flags, *said]),
        gaps=_merged([*gaps, *missing]),
        doubts=tuple(doubt for cut, result in found for doubt in _doubts(cut, result)),
    )


def _parted(found: list[tuple[Cut, ChunkResult]]) -> list[tuple[Cut, ChunkResult]]:
    """Leave out once what two neighbours say of the audio that they share."""
    parted: list[tuple[Cut, ChunkResult]] = []
    for cut, result in found:
        if parted and (shared := parted[-1][0].end_sample - cut.start_sample) > 0:
            before, said = parted[-1]
            said, result = without_overlap(
                said, result, left_s=before.duration_s, overlap_s=shared / SAMPLE_RATE_HZ
            )
            parted[-1] = (before, said)
        parted.append((cut, result))
    return parted


def _only(cut: Cut, ordered: Sequence[Cut], results: Mapping[int, ChunkResult]) -> tuple[float, float]:
    """What of a cut without result no other one has, in seconds of the recording."""
    start_s, end_s = cut.start_s, cut.start_s + cut.duration_s
    for other in ordered:
        if other.index in results:
            if other.start_sample <= cut.start_sample < other.end_sample:
                start_s = max(start_s, other.end_sample / SAMPLE_RATE_HZ)
            if other.start_sample < cut.end_sample <= other.end_sample:
                end_s = min(end_s, other.start_s)
    return start_s, max(start_s, end_s)


def _placed(cut: Cut, result: ChunkResult) -> Iterator[Segment]:
    """Give a result's segments in seconds of the recording; one for the whole cut where it has none."""
    if not _has_segments(result):
        if text := result.text.strip():
            yield Segment(cut.start_s, cut.start_s + cut.duration_s, text)
        return
    for segment in result.segments:
        if not segment.text.strip():
            continue
        start_s, end_s = _clamped(segment.start_s, segment.end_s, cut)
        words = segment.words
        if words is not None:
            words = tuple(Word(*_clamped(word.start_s, word.end_s, cut), word.text) for word in words)
        yield Segment(start_s, end_s, segment.text.strip(), segment.speaker, words)


def _doubts(cut: Cut, result: ChunkResult) -> Iterator[Doubt]:
    for doubt in result.doubts:
        yield Doubt(doubt.flag, *_clamped(doubt.start_s, doubt.end_s, cut))


def _flags(result: ChunkResult) -> Iterator[str]:
    yield from result.flags
    yield from (doubt.flag for doubt in result.doubts)


def _has_segments(result: ChunkResult) -> bool:
    return any(segment.text.strip() for segment in result.segments)


def _clamped(start_s: float, end_s: float, cut: Cut) -> tuple[float, float]:
    """Move times of the cut into the recording; engines are known to run past the end of what they got."""
    start = min(max(start_s, 0.0), cut.duration_s) if math.isfinite(start_s) else 0.0
    end = min(max(end_s, start), cut.duration_s) if math.isfinite(end_s) else cut.duration_s
    return cut.start_s + start, cut.start_s + end


def _weakest(results: Sequence[ChunkResult]) -> Timestamps:
    """Return what can be said of all times; a silent chunk has none that could be missing."""
    spoken = [result for result in results if result.text.strip()] or results
    claims = ["none" if r.text.strip() and not _has_segments(r) else r.timestamps for r in spoken]
    return max(claims, key=_STRENGTH.index, default="none")


def _merged(gaps: Sequence[Gap]) -> tuple[Gap, ...]:
    """Sort gaps, and make one of neighbours that touch and have the same error."""
    merged: list[Gap] = []
    for gap in sorted(gaps, key=lambda gap: (gap.start_s, gap.end_s)):
        last = merged[-1] if merged else None
        if last is not None and last.error == gap.error and gap.start_s - last.end_s < 0.001:
            merged[-1] = Gap(last.start_s, max(last.end_s, gap.end_s), gap.error)
        else:
            merged.append(gap)
    return tuple(merged)


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    """Return the items in order of first appearance."""
    return tuple(dict.fromkeys(items))
