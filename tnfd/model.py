"""The nouns of tnfd: plain frozen records that every room passes around. No behaviour beyond themselves.

Moments (``_at``) are UTC-aware datetimes. Paths below an inbox are bytes relative to its root.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

SAMPLE_RATE_HZ = 16_000  # all audio is brought to 16 kHz mono; offsets count these samples

Timestamps = Literal["engine", "aligned", "estimated", "none"]
Encoding = Literal["opus", "pcm", "wav"]


class JobState(StrEnum):
    """Where a job stands; the allowed moves are in ``rules.states``."""

    SETTLING = "settling"  # seen, may still be growing
    QUEUED = "queued"  # accepted; waits for a worker or for what ``waiting`` says
    RUNNING = "running"  # leased by a worker
    DONE = "done"  # outputs are on disk
    PARTIAL = "partial"  # outputs are on disk, with marked gaps
    FAILED = "failed"  # given up, with a code; ``tnfd retry`` starts anew
    DUPLICATE = "duplicate"  # outputs are on disk, from the transcription of another job
    CANCELLED = "cancelled"  # stopped by the user
    VANISHED = "vanished"  # the file left before its outputs were written

    @property
    def final(self) -> bool:
        """Whether nothing more happens to the job by itself."""
        return self not in (JobState.SETTLING, JobState.QUEUED, JobState.RUNNING)


class WaitReason(StrEnum):
    """Why a queued job is not running."""

    RETRY = "retry"
    RATE_LIMIT = "rate_limit"
    ENGINE_PAUSED = "engine_paused"
    BUDGET = "budget"
    ORIGINAL = "original"
    INBOX_LOST = "inbox_lost"
    DISK = "disk"
    PAUSED = "paused"
    CONFIG = "config"


@dataclass(frozen=True, slots=True)
class StatKey:
    """What must stay equal for a file to count as unchanged (facts/ingest: never the mtime alone)."""

    dev: int
    ino: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, st: os.stat_result) -> StatKey:
        """Take the key of a stat result."""
        return cls(st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)

    def same_content(self, other: StatKey) -> bool:
        """Whether nothing says that the content changed; ctime also moves on chmod, rename and link."""
        return (self.ino, self.size_bytes, self.mtime_ns) == (other.ino, other.size_bytes, other.mtime_ns)


@dataclass(frozen=True, slots=True)
class FileRef:
    """One file as it was seen: the inbox's root, the path below it, and its stat key at that moment."""

    root: bytes  # absolute path of the inbox or batch root, as given to the operating system
    rel: bytes  # relative to root, with /
    stat: StatKey

    @property
    def path(self) -> bytes:
        """The absolute path."""
        return os.path.join(self.root, self.rel)

    @property
    def name(self) -> bytes:
        """The last component."""
        return self.rel.rpartition(b"/")[2]


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine as it was asked for when the job was claimed."""

    name: str
    type: str
    model: str


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What an inbox or a batch asks for, resolved and frozen at claim."""

    engines: tuple[EngineChoice, ...]  # in order of preference
    formats: tuple[str, ...] = ("txt",)
    name_format: str = "{stem}.{ext}"
    output_dir: str = ""  # absolute, or empty: beside the input
    languages: tuple[str, ...] = ()  # empty: detect
    audio_languages: tuple[str, ...] = ()
    prompt: str = ""
    keywords: tuple[str, ...] = ()
    speakers: Literal["off", "engine", "channels"] = "off"
    speaker_names: tuple[str, ...] = ()
    speaker_samples: tuple[str, ...] = ()  # files with the voices of the names, absolute
    on_duplicate: Literal["write", "skip"] = "write"
    after: Literal["keep", "move", "delete"] = "keep"
    done_dir: str = "done"
    failed_dir: str = "failed"
    status: Literal["always", "failures", "never"] = "always"


@dataclass(frozen=True, slots=True)
class ContentKey:
    """What a transcription is paid for once: the content, and the settings that change its text."""

    sha256: str  # lower-case hex
    size_bytes: int
    profile: str  # rules.profile.profile_of(settings)


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What the file is. ``duration_s`` is the header's promise; None where the header has none.

    ``decoded_s`` is how much sound there really was; None until all of it was decoded.
    """

    container: str
    codec: str
    duration_s: float | None
    audio_streams: int
    recorded_at: str | None = None
    decoded_s: float | None = None
    channels: int = 1  # that are transcribed one by one; 1: all of them together

    def evolve(self, **changes: Any) -> MediaInfo:
        """Return a copy with changes."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Cut:
    """One piece of audio, to be sent as one request: samples [start, end) at 16 kHz, encoded in ``file``.

    ``torn_start`` and ``torn_end``: no quiet place was found there, it shares some audio with its neighbour.
    ``silent``: nothing audible in it; it has no file and is not sent.
    """

    index: int
    start_sample: int
    end_sample: int
    file: str  # name below the transcription's scratch folder
    size_bytes: int
    torn_start: bool = False
    torn_end: bool = False
    silent: bool = False

    @property
    def duration_s(self) -> float:
        """Seconds of audio."""
        return (self.end_sample - self.start_sample) / SAMPLE_RATE_HZ

    @property
    def start_s(self) -> float:
        """Seconds from the start of the recording."""
        return self.start_sample / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Word:
    """One word; seconds."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of text; seconds, relative to the cut (ChunkResult) or the recording (Transcript)."""

    start_s: float
    end_s: float
    text: str
    speaker: str | None = None
    words: tuple[Word, ...] | None = None


@dataclass(frozen=True, slots=True)
class Doubt:
    """A stretch of text that may not have been spoken; seconds, relative to the cut or the recording."""

    flag: str  # one of rules.quality.DOUBTS
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """What an engine answered for one cut."""

    text: str
    segments: tuple[Segment, ...] = ()  # empty where the engine gives no times
    languages: tuple[str, ...] = ()
    timestamps: Timestamps = "none"
    cost_usd: float | None = None  # where the server's usage says it; else None: duration x price
    audio_s: float | None = None  # the seconds that the server says it counted
    flags: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch that could not be transcribed; seconds and an error code."""

    start_s: float
    end_s: float
    error: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """A whole recording's text, as the formats render it."""

    text: str
    segments: tuple[Segment, ...]
    duration_s: float
    languages: tuple[str, ...] = ()
    timestamps: Timestamps = "none"
    flags: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as it is stored and shown."""

    code: str
    message: str
    hint: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a queued job does not run, until when (None: until something changes), in a few words."""

    reason: WaitReason
    until: datetime | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a transcription took, summed over its requests."""

    audio_s: float = 0.0
    requests: int = 0
    uploaded_bytes: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One output: its name, and the sha256 of what was written (None: reserved, not yet written)."""

    format: str  # txt, json, ...
    name: bytes  # in the job's output folder, as the operating system takes it
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Adoption:
    """What the status file of another tnfd says of work that need not be done again; believed for one job."""

    instance: str
    job: str
    media: MediaInfo | None = None
    engine: EngineChoice | None = None
    timestamps: Timestamps | None = None
    languages: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """What is owed for one input file, as the store knows it. ``transcription`` is shared by duplicates."""

    id: str
    scope: str  # "inbox:<path>" or "batch:<id>"
    inbox: str  # the inbox's name, for people
    source: FileRef
    settings: JobSettings
    state: JobState
    profile: str
    seen_at: datetime
    updated_at: datetime
    sha256: str | None = None
    transcription: int | None = None
    waiting: Waiting | None = None
    error: ErrorInfo | None = None
    failures: int = 0
    lease_epoch: int = 0
    media: MediaInfo | None = None
    engine: EngineChoice | None = None  # the one that was used
    engine_why: str = ""  # why it was not the first of the settings' list; empty: it was
    turn: str = ""  # the name of the engine in the settings' list whose turn it is
    chunks_done: int = 0
    chunks_total: int = 0
    outputs: tuple[OutputFile, ...] = ()
    timestamps: Timestamps | None = None
    languages: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    flags: tuple[str, ...] = ()
    duplicate_of: tuple[str, bytes] | None = None  # job id, absolute path
    usage: Usage = field(default_factory=Usage)
    settled_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    moved_to: bytes | None = None  # absolute path, once ``after`` has moved the file
    adopted: Adoption | None = None  # another tnfd did the work

    @property
    def present(self) -> FileRef:
        """The file where it lies by now; ``source`` is where it was seen."""
        if self.moved_to is None:
            return self.source
        return FileRef(self.source.root, os.path.relpath(self.moved_to, self.source.root), self.source.stat)

    def evolve(self, **changes: Any) -> Job:
        """Return a copy with changes."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of a job's story."""

    at: datetime
    event: str
    detail: str
