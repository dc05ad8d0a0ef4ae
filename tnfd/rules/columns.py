"""Text in a terminal's columns: how wide it is, and how to make it fit. Pure; knows no terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

ELLIPSIS = "…"


def width(text: str) -> int:
    """Return the columns that a text takes: two for full-width characters, none for marks on others."""
    if text.isascii():
        return len(text)
    return sum(char_width(char) for char in text)


def char_width(char: str) -> int:
    """Return the columns of one character."""
    if unicodedata.east_asian_width(char) in "WF":
        return 2
    return 0 if unicodedata.category(char) in ("Mn", "Me", "Cf") else 1


def pad(text: str, columns: int) -> str:
    """Fill a text up with spaces."""
    return text + " " * max(0, columns - width(text))


def clip(text: str, columns: int) -> str:
    """Leave out the end of a text that is too wide."""
    if width(text) <= columns:
        return text
    return _head(text, max(0, columns - 1)) + ELLIPSIS * (columns > 0)


def shorten(text: str, columns: int) -> str:
    """Leave out the middle of a name that is too wide: its end tells as much as its beginning."""
    if width(text) <= columns:
        return text
    room = columns - 1
    if room < 4:
        return clip(text, columns)
    tail = _head(text[::-1], room // 2)[::-1]
    while tail and not char_width(tail[0]):  # a mark without the letter that it stands on
        tail = tail[1:]
    return _head(text, room - width(tail)) + ELLIPSIS + tail


def _head(text: str, columns: int) -> str:
    used = 0
    for end, char in enumerate(text):
        used += char_width(char)
        if used > columns:
            return text[:end]
    return text


def wrap(text: str, columns: int) -> list[str]:
    """Break a text into lines between its words; a word that is wider than a line is shortened."""
    return _lines([shorten(word, columns) for word in text.split()], columns)


def fold(text: str, columns: int) -> list[str]:
    """Break a text into lines at its spaces, which all stay; a word that is wider than a line stays whole."""
    return _lines(text.split(" "), columns)


def _lines(words: Sequence[str], columns: int) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and width(lines[-1]) + 1 + width(word) <= columns:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines or [""]


def share(wants: Sequence[int], columns: int, least: int = 8) -> list[int]:
    """Give each of some texts its columns; where they do not all fit, the widest give way first."""
    given = list(wants)
    while sum(given) > columns:
        widest = max(range(len(given)), key=given.__getitem__)
        if given[widest] <= least:
            break
        given[widest] -= 1
    return given
