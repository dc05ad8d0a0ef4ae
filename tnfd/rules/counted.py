"""Numbers with their nouns, for people. Pure."""

from __future__ import annotations


def counted(number: int, one: str, many: str) -> str:
    """``1 minute``, ``2 minutes``, ``0 minutes``."""
    return f"{number} {one if number == 1 else many}"
