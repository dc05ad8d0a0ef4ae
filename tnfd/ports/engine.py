"""What turns audio into text: a server, or a library on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from tnfd.model import ChunkResult, Encoding, EngineChoice
from tnfd.rules.throttle import Stated


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one engine with one model takes and gives.

    ``max_bytes`` and ``max_s`` bound one request. ``usd_per_minute`` is 0 for local engines.
    ``max_concurrency`` is how many requests may be in flight at once.
    """

    encoding: Encoding
    max_bytes: int
    max_s: float
    timestamps: bool
    max_concurrency: int
    usd_per_minute: float
    draft: bool = False  # marks transcripts with the flag "draft"
    only_languages: tuple[str, ...] | None = None  # None: any
    uploads: bool = True  # False: the audio stays on this machine
    speakers: bool = False  # may tell speakers apart
    requests_per_minute: float = 0.0  # as the owner caps it; 0: only the server's own limit


@dataclass(frozen=True, slots=True)
class EngineChunk:
    """One encoded cut on disk. ``encoding`` "pcm" is raw s16le, 16 kHz mono; "opus" is Ogg/Opus.

    An engine that takes "opus" takes "wav" as well.
    """

    path: Path
    encoding: Encoding
    duration_s: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Voice:
    """Somebody's voice: a name, and some seconds of nobody else speaking, as a file's content."""

    name: str
    sample: bytes
    media_type: str  # audio/wav


@dataclass(frozen=True, slots=True)
class Hints:
    """What the settings tell the engine about the recording."""

    languages: tuple[str, ...] = ()  # empty: detect
    prompt: str = ""
    keywords: tuple[str, ...] = ()
    want_times: bool = False
    speakers: bool = False  # name who speaks
    voices: tuple[Voice, ...] = ()  # whom the engine may know


class Engine(Protocol):
    """An async context manager; heavy imports and connections happen at the first request, not before."""

    name: str
    type: str
    model: str
    capabilities: Capabilities

    async def __aenter__(self) -> Self:
        """Cheap: nothing is loaded or connected yet."""
        ...

    async def __aexit__(self, *exc_info: object) -> None:
        """Close connections, end children."""
        ...

    async def warm(self) -> None:
        """Do ahead what the first request would have to wait for (imports, clients); harmless twice.

        Raises:
            Fault: it cannot work at all.
        """
        ...

    async def transcribe(self, chunk: EngineChunk, hints: Hints) -> ChunkResult:
        """Send one cut and return its text.

        One call is one request: no retry inside, so that the gate can count each one.
        Times in the result are relative to the cut.

        Raises:
            Fault: every failure, translated (codes ``engine.*``).

        Cancellation aborts the request; whether it was paid is then unknown.
        """
        ...


@runtime_checkable
class Limited(Protocol):
    """An engine whose server may limit the rate of requests."""

    @property
    def stated(self) -> Stated | None:
        """What the newest answer said of it; None: no answer has come yet."""
        ...


@runtime_checkable
class Preparing(Protocol):
    """An engine that may need minutes to make itself ready, as for a download.

    ``doing``: what it is at, for people; else empty.
    """

    doing: str


class Engines(Protocol):
    """The engines that jobs ask for by name, type and model."""

    async def get(self, choice: EngineChoice) -> Engine | None:
        """The engine, open; None where none of that name and type is configured any more.

        A model that the configuration does not name any more is used with the rest of what it says.
        """
        ...

    def is_configured(self, choice: EngineChoice) -> bool:
        """Whether the configuration still says exactly this."""
        ...
