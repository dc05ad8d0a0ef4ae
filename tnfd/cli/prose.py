"""Sentences for people: broken between words at the terminal's width; elsewhere left whole, for scripts."""

from __future__ import annotations

import sys
import textwrap

from tnfd.cli import terminal
from tnfd.cli.options import complain


def tell(text: str, *, hang: int = 0) -> None:
    """Print to stdout; what does not fit on a line goes on below, after ``hang`` spaces."""
    for line in _lines(text, hang, at_terminal=sys.stdout.isatty()):
        terminal.say(line)


def object_to(text: str, *, hang: int = 0) -> None:
    """Print to stderr, likewise."""
    for line in _lines(text, hang, at_terminal=sys.stderr.isatty()):
        complain(line)


def _lines(text: str, hang: int, *, at_terminal: bool) -> list[str]:
    if not at_terminal:
        return [text]
    return [
        piece
        for line in text.split("\n")
        for piece in textwrap.wrap(
            line,
            terminal.columns(),
            subsequent_indent=" " * hang,
            break_long_words=False,  # paths stay whole: they are there to be copied
            break_on_hyphens=False,
        )
        or [""]
    ]
