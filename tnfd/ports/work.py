"""A transcription as the pipeline works on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tnfd.model import ChunkResult, ContentKey, Cut, Encoding, EngineChoice, MediaInfo, Transcript


@dataclass(frozen=True, slots=True)
class Transcription:
    """What is paid once: the plan (``cuts``), what was answered (``results`` by cut index), the text.

    ``losses`` are the codes of the errors for which cuts were given up, ``max_s`` the longest cut that the
    server takes (seconds), where it refused longer ones.
    """

    id: int
    key: ContentKey
    owner_job: str
    engine: EngineChoice | None  # fixed once a chunk was paid
    encoding: Encoding | None
    media: MediaInfo | None
    cuts: tuple[Cut, ...]
    cuts_complete: bool
    samples: int | None
    bad_packets: int
    results: Mapping[int, ChunkResult]
    transcript: Transcript | None
    generation: int = 0  # how often it was asked for anew (redo)
    losses: Mapping[int, str] = field(default_factory=dict)
    max_s: float | None = None
