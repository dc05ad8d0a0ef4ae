"""What tnfd can hear for itself in audio that it has encoded, without understanding a word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tnfd.model import Encoding
from tnfd.ports.engine import EngineChunk

Span = tuple[float, float]  # seconds from the start of the cut


class Ear(Protocol):
    """Listens to cuts. Nothing is owed to it: where it fails, work goes on with less knowledge.

    Every method raises Fault ``engine.crashed`` or ``engine.timeout``; cancellation ends what runs.
    """

    async def levels(self, chunk: EngineChunk) -> bytes:
        """Return the loudness: a byte for every 20 ms, decibels above -100 of full scale."""
        ...

    async def align(
        self, chunk: EngineChunk, words: Sequence[tuple[str, str]], *, start_s: float, end_s: float
    ) -> list[Span | None]:
        """Return when each English word (with a guess at its phones) is said between two moments.

        None from the first word on that was not found in the sound; all None where no aligner is installed.
        """
        ...

    async def copy(
        self, chunk: EngineChunk, to: Path, *, start_s: float, end_s: float, pad_s: float = 0.0,
        encoding: Encoding | None = None,
    ) -> EngineChunk:  # fmt: skip
        """Write a stretch of a cut, after ``pad_s`` of silence, as a new one, by default encoded the same."""
        ...
