"""Which way a line of a subtitle runs: marks that nobody sees keep right-to-left text in order.

Players take a line's direction from its first letter, or for granted. Where a line of Arabic or Hebrew begins
or ends with a mark, a number or a foreign name, those would end up on its wrong side.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

RLM = "\u200f"  # right-to-left mark


def directed(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the lines, with marks at their ends where the text as a whole runs from right to left."""
    kinds = [unicodedata.bidirectional(char) for line in lines for char in line]
    right = sum(kind in ("R", "AL") for kind in kinds)
    if right <= kinds.count("L"):
        return tuple(lines)
    return tuple(_marked(line) for line in lines)


def _marked(line: str) -> str:
    if not line:
        return line
    before = "" if _runs_left(line[0]) else RLM
    return before + line + ("" if _runs_left(line[-1]) else RLM)


def _runs_left(char: str) -> bool:
    return unicodedata.bidirectional(char) in ("R", "AL")
