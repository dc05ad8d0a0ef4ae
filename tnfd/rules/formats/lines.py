"""Breaks the text of a cue into lines: as few as it takes, of like length, ending where text may end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tnfd.rules.columns import width
from tnfd.rules.formats.breaks import COLUMNS, break_cost, pieces

_LINE = 100_000.0  # one line fewer is worth more than any beauty
_BREAK = 14.0  # the cost of a break, in squares of columns


@dataclass(frozen=True, slots=True)
class Part:
    """An unbreakable piece of a cue, with what it costs to end a line after it."""

    text: str
    spaced: bool
    columns: int
    cost: int = 0


def wrapped(parts: Sequence[Part]) -> tuple[str, ...]:
    """Return the lines; one is wider than COLUMNS only where a single piece is."""
    count = len(parts)
    best = [0.0] + [float("inf")] * count
    began = [0] * (count + 1)
    for begin in range(count):
        columns = -int(parts[begin].spaced)
        for end in range(begin + 1, count + 1):
            part = parts[end - 1]
            columns += part.columns + part.spaced
            if columns > COLUMNS and end > begin + 1:
                break
            cost = best[begin] + _LINE + max(0, COLUMNS - columns) ** 2
            if end < count:
                cost += _BREAK * part.cost
            if cost < best[end]:
                best[end], began[end] = cost, begin
    lines: list[str] = []
    end = count
    while end:
        lines.append(_line(parts[began[end] : end]))
        end = began[end]
    return tuple(reversed(lines))


def wrapped_text(text: str) -> tuple[str, ...]:
    """Return the lines of a text that stands alone."""
    found = list(pieces(text))
    after = [break_cost(one[0], two[0], spaced=two[1]) for one, two in pairwise(found)]
    return wrapped(
        [
            Part(text, spaced, width(text), cost)
            for (text, spaced), cost in zip(found, [*after, 0], strict=True)
        ]
    )


def _line(parts: Sequence[Part]) -> str:
    head, *rest = parts
    return head.text + "".join(f" {part.text}" if part.spaced else part.text for part in rest)
