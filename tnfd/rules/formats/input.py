"""What a renderer gets: the transcript and where it came from; nothing that changes between two runs."""

from __future__ import annotations

from dataclasses import dataclass

from tnfd.model import EngineChoice, Transcript


@dataclass(frozen=True, slots=True)
class RenderInput:
    """One transcript and its origin. ``engine`` is None where no audio ever reached one.

    ``recorded_at``: the moment of recording as it is written, ``2026-11-23T16:02:11Z``; None: not known.
    """

    transcript: Transcript
    source_name: bytes
    sha256: str  # of the source
    engine: EngineChoice | None
    recorded_at: str | None = None
