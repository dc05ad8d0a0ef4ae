"""What is said for what is written: English text as the plain words that an aligner looks for. Pure.

A written word may be several spoken ones ("$42.50", "U.S.", "rock-'n'-roll") or none ("—"). Never decides
times; what has no spoken form is placed between its neighbours by ``times``.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from tnfd.rules.formats.breaks import pieces
from tnfd.rules.hearing.letters import phones_of
from tnfd.rules.hearing.numbers import spoken_number

_SHORT = {
    "mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint", "prof": "professor", "vs": "versus",
    "etc": "etcetera", "jr": "junior", "sr": "senior", "gov": "governor", "sen": "senator", "no": "no",
}  # fmt: skip
_SIGNS = {"&": "and", "+": "plus", "=": "equals", "%": "percent", "@": "at"}
_PARTS = re.compile(
    r"[$€£¥]?\d+(?:,\d{3})*(?:[.:]\d+)?(?:st|nd|rd|th|s|%)?(?![A-Za-z\d])|\d+|[A-Za-z]+(?:'[A-Za-z]+)*|[&+=%@]"
)
_LETTERS = re.compile(r"(?:[A-Za-z]\.){2,}[A-Za-z]?|[A-Z]{2,5}")


@dataclass(frozen=True, slots=True)
class Written:
    """One piece of the text as it stands, with the words that are said for it and a guess at their phones."""

    text: str
    spaced: bool  # a space stands before it
    said: tuple[tuple[str, str], ...] = ()


def written(text: str, *, english: bool) -> list[Written]:
    """Divide a text into what no line may divide; only English gets spoken forms."""
    return [Written(piece, spaced, tuple(_said(piece)) if english else ()) for piece, spaced in pieces(text)]


def _said(piece: str) -> list[tuple[str, str]]:
    plain = _plain(piece)
    bare = plain.strip(".,;:!?()[]\"'-–—…")
    if _LETTERS.fullmatch(plain.strip(",;:!?()[]\"'-–—…")) or _LETTERS.fullmatch(bare):
        word = "".join(char for char in plain if char.isalpha()).lower()
        return [(word, phones_of(word, letters=True))]
    found: list[tuple[str, str]] = []
    for part in _PARTS.findall(plain):
        words = spoken_number(part) or [_SIGNS.get(part) or _SHORT.get(part.lower(), part.lower())]
        found += [(word, phones_of(word)) for word in words if word.strip("'").isalpha() or "'" in word]
    return [(word, phones) for word, phones in found if phones]


def _plain(piece: str) -> str:
    """Return the piece with straight apostrophes and without accents."""
    decomposed = unicodedata.normalize("NFKD", piece.replace("’", "'").replace("‘", "'"))
    return "".join(char for char in decomposed if not unicodedata.combining(char))
