"""Holes in a recording's own clock: how much silence keeps the text in step with the picture. Pure.

Packets that were lost, could not be decoded, or never recorded (a sound track that starts late) would pull
everything behind them forward; subtitles would run early from there on.
"""

from __future__ import annotations

import math

# Below this nobody sees it; timestamps jitter, and those of some containers (AVI) drift a little.
_TOLERANCE_S = 0.3
# A longer jump is a new start of the clock (joined streams, a wrapped counter), not a hole.
_LONGEST_HOLE_S = 60.0
# Headers count a little less than decoders yield.
_END_TOLERANCE_S = 1.0


class Timeline:
    """Compares the timestamps of one stream with the audio that came out of it.

    ``origin_s`` is the recording's start on the stream's clock, ``length_s`` what its header promises.
    """

    def __init__(self, origin_s: float | None, length_s: float | None) -> None:
        self._origin_s = origin_s
        self._end_s = math.inf if length_s is None else length_s + _END_TOLERANCE_S
        self._played_s = 0.0
        self._filled_s = 0.0

    def place(self, at_s: float | None, duration_s: float) -> float:
        """Place a frame that claims to start ``at_s``; return the seconds of silence due before it."""
        hole_s = 0.0
        if at_s is not None:
            if self._origin_s is None:
                self._origin_s = at_s
            hole_s = at_s - self._origin_s - self._played_s
            if abs(hole_s) > _LONGEST_HOLE_S:
                self._origin_s += hole_s
                hole_s = 0.0
        if hole_s < _TOLERANCE_S or not self._plausible(hole_s, duration_s):
            hole_s = 0.0
        self._filled_s += hole_s
        self._played_s += hole_s + duration_s
        return hole_s

    def _plausible(self, hole_s: float, duration_s: float) -> bool:
        """Timestamps are a stranger's: silence stays within the recording, and what was really heard."""
        heard_s = self._played_s - self._filled_s
        return (
            self._played_s + hole_s + duration_s <= self._end_s
            and self._filled_s + hole_s <= heard_s + _LONGEST_HOLE_S
        )
