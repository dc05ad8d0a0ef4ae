"""Every key of the configuration, once: its kind, its default, and what this version cannot do yet.

Owns the records that the rest of the program reads. Reads nothing itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tnfd.config import forms, kinds
from tnfd.config.kinds import Kind
from tnfd.rules.formats import available

CONTRACT_FORMATS = ("txt", "md", "srt", "vtt", "json")
FORMATS = available()  # those that can be rendered
ENGINE_TYPES = ("openai", "whisper", "sphinx")  # each is also the name of a built-in engine
COMPUTE_TYPES = (
    "auto", "default", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16",
    "bfloat16", "float32",
)  # fmt: skip
DEFAULT_MODELS = {"openai": "gpt-transcribe", "whisper": "small", "sphinx": "en-us"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table; ``types`` are the engine types that have it (empty: all)."""

    name: str
    kind: Kind
    default: Any
    types: tuple[str, ...] = ()


def _is(kind: Kind, *types: str) -> dict[str, Any]:
    return {"kind": kind, "types": types}


def _check_format(name: str) -> str | None:
    if name in CONTRACT_FORMATS:
        return None
    choices = ", ".join(CONTRACT_FORMATS)
    return f'unknown format "{name}"{forms.nearest(name, CONTRACT_FORMATS)}; expected some of {choices}'


_FORMATS = kinds.texts(
    "formats", _check_format, at_least=1, distinct=True, change=lambda name: name.lower().lstrip(".")
)
_GLOBS = kinds.texts("globs", forms.check_glob)
_SUBFOLDER = kinds.text("a folder relative to the inbox", forms.check_subfolder)


def _check_engine_name(name: str) -> str | None:
    return None if name.strip() else "expected an engine's name, found an empty text"


_ENGINES = kinds.text_or_texts(kinds.texts("engine names", _check_engine_name, distinct=True), absent="")


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """``[daemon]``: the process itself."""

    state_dir: Path = field(metadata=_is(kinds.path("a folder on a local disk")))
    workers: int = field(default=5, metadata=_is(kinds.whole(1, 10_000)))
    queue_size: int = field(default=0, metadata=_is(kinds.whole(0)))
    max_attempts: int = field(default=5, metadata=_is(kinds.whole(1)))
    backoff_s: tuple[float, float] = field(default=(2.0, 300.0), metadata=_is(kinds.rising_pair()))
    shutdown_grace_s: float = field(default=25.0, metadata=_is(kinds.number(0, unit=" of seconds")))
    log_format: Literal["auto", "console", "json"] = field(
        default="auto", metadata=_is(kinds.one_of("auto", "console", "json"))
    )
    log_level: Literal["debug", "info", "warning", "error"] = field(
        default="info", metadata=_is(kinds.one_of("debug", "info", "warning", "error"))
    )

    @property
    def queue_slots(self) -> int:
        """How many ids the queue holds in memory."""
        return self.queue_size or 2 * self.workers


@dataclass(frozen=True, slots=True)
class InboxConfig:
    """One ``[[inbox]]``. ``language`` empty: detect; ``engine`` empty: the first that is configured."""

    path: Path = field(metadata=_is(kinds.path("the folder to watch")))
    name: str = field(default="", metadata=_is(kinds.text("a name", forms.check_label)))
    recursive: bool = field(default=True, metadata=_is(kinds.switch()))
    include: tuple[str, ...] = field(default=(), metadata=_is(_GLOBS))
    exclude: tuple[str, ...] = field(default=(), metadata=_is(_GLOBS))
    existing: Literal["process", "skip"] = field(
        default="process", metadata=_is(kinds.one_of("process", "skip"))
    )
    skip_existing_outputs: bool = field(default=False, metadata=_is(kinds.switch()))
    watch: Literal["auto", "events", "scan"] = field(
        default="auto", metadata=_is(kinds.one_of("auto", "events", "scan"))
    )
    settle_s: float = field(default=5.0, metadata=_is(kinds.number(0.3, unit=" of seconds")))
    formats: tuple[str, ...] = field(default=("txt",), metadata=_is(_FORMATS))
    name_format: str = field(
        default="{stem}.{ext}", metadata=_is(kinds.text("a file name's form", forms.check_name_format))
    )
    output_dir: str = field(default="", metadata=_is(kinds.inbox_relative("a folder")))
    engine: tuple[str, ...] = field(default=(), metadata=_is(_ENGINES))
    language: tuple[str, ...] = field(default=(), metadata=_is(kinds.languages()))
    audio_language: tuple[str, ...] = field(default=(), metadata=_is(kinds.stream_languages()))
    prompt: str = field(default="", metadata=_is(kinds.text()))
    keywords: tuple[str, ...] = field(
        default=(), metadata=_is(kinds.texts("keywords", forms.check_keyword, distinct=True))
    )
    speakers: Literal["off", "engine", "channels"] = field(
        default="off", metadata=_is(kinds.one_of("off", "engine", "channels"))
    )
    speaker_names: tuple[str, ...] = field(
        default=(), metadata=_is(kinds.texts("names", forms.check_speaker, distinct=True))
    )
    speaker_samples: tuple[Path, ...] = field(default=(), metadata=_is(kinds.paths("files")))
    on_duplicate: Literal["write", "skip"] = field(
        default="write", metadata=_is(kinds.one_of("write", "skip"))
    )
    after: Literal["keep", "move", "delete"] = field(
        default="keep", metadata=_is(kinds.one_of("keep", "move", "delete"))
    )
    done_dir: str = field(default="done", metadata=_is(_SUBFOLDER))
    failed_dir: str = field(default="failed", metadata=_is(_SUBFOLDER))
    status: Literal["always", "failures", "never"] = field(
        default="always", metadata=_is(kinds.one_of("always", "failures", "never"))
    )

    @property
    def output_root(self) -> Path | None:
        """Where the mirrored tree of outputs begins; None: beside the inputs."""
        # A relative folder belongs to the inbox, like done_dir and failed_dir.
        return Path(self.path, self.output_dir) if self.output_dir else None


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One ``[engines.NAME]``; each key belongs to the types named beside it.

    Zeros and -1 mean: let the engine decide (see ``config.example.toml``).
    """

    name: str
    type: str = field(metadata=_is(kinds.one_of(*ENGINE_TYPES)))
    # sphinx has one model, which nobody chooses.
    model: str = field(default="", metadata=_is(kinds.model(), "openai", "whisper"))
    base_url: str = field(default="", metadata=_is(kinds.text("a URL", forms.check_base_url), "openai"))
    api_key_file: Path | None = field(
        default=None, metadata=_is(kinds.path("a file's path", optional=True, private=True), "openai")
    )
    api_key_env: str = field(
        default="",
        metadata=_is(
            kinds.text("an environment variable's name", forms.check_variable, private=True), "openai"
        ),
    )
    max_concurrency: int = field(default=0, metadata=_is(kinds.whole(0, 10_000), "openai"))
    requests_per_minute: float = field(default=0.0, metadata=_is(kinds.number(0), "openai"))
    timeout_s: float = field(default=0.0, metadata=_is(kinds.number(0, unit=" of seconds"), "openai"))
    price_usd_per_minute: float = field(
        default=-1.0, metadata=_is(kinds.number(0, unit=" of dollars", also=-1), "openai")
    )
    device: str = field(default="auto", metadata=_is(kinds.one_of("auto", "cpu", "cuda"), "whisper"))
    compute_type: str = field(default="auto", metadata=_is(kinds.one_of(*COMPUTE_TYPES), "whisper"))
    download: bool = field(default=False, metadata=_is(kinds.switch(), "whisper"))


@dataclass(frozen=True, slots=True)
class PrivacyConfig:
    """``[privacy]``."""

    local_only: bool = field(default=False, metadata=_is(kinds.switch()))


@dataclass(frozen=True, slots=True)
class BudgetConfig:
    """``[budget]``: dollars per local calendar day and month; 0: no limit."""

    daily_usd: float = field(default=10.0, metadata=_is(kinds.number(0, unit=" of dollars")))
    monthly_usd: float = field(default=0.0, metadata=_is(kinds.number(0, unit=" of dollars")))


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    """``[retention]``: days; 0: kept until forgotten."""

    transcripts_days: int = field(default=0, metadata=_is(kinds.whole(0)))


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, checked.

    ``engines``: the first is the default one. ``sources``: ``daemon.workers``, ``inbox[0].formats`` or
    ``engines.openai.model`` -> where the value came from. ``file``: None where there is none.
    """

    daemon: DaemonConfig
    inboxes: tuple[InboxConfig, ...] = ()
    engines: Mapping[str, EngineConfig] = field(default_factory=dict)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    sources: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None


def keys_of(table: type[Any]) -> dict[str, Key]:
    """The keys of one of the records above, in order."""
    return {
        item.name: Key(
            item.name,
            item.metadata["kind"],
            None if item.default is dataclasses.MISSING else item.default,
            item.metadata["types"],
        )
        for item in dataclasses.fields(table)
        if item.metadata
    }


SECTIONS: dict[str, dict[str, Key]] = {
    "daemon": keys_of(DaemonConfig),
    "privacy": keys_of(PrivacyConfig),
    "budget": keys_of(BudgetConfig),
    "retention": keys_of(RetentionConfig),
}
INBOX = keys_of(InboxConfig)
ENGINE = keys_of(EngineConfig)


def keys_of_type(engine_type: str) -> dict[str, Key]:
    """The keys that an engine of this type has."""
    return {name: key for name, key in ENGINE.items() if not key.types or engine_type in key.types}


def default_engine(name: str) -> EngineConfig:
    """The built-in engine of that name.

    Raises:
        KeyError: it is none of ENGINE_TYPES.
    """
    return EngineConfig(name=name, type=name, model=DEFAULT_MODELS[name])


# -- what the contract promises and this version cannot do -----------------------------------------------


# Schema key -> what of a valid value is not built yet (None: nothing). A setting is refused rather than
# ignored; whoever builds one deletes its row.
NOT_YET: dict[str, Callable[[Any], str | None]] = {}


def not_yet(schema_key: str, value: Any) -> str | None:
    """Say that a valid value is not available in this version, or None."""
    refuses = NOT_YET.get(schema_key)
    refused = refuses(value) if refuses else None
    return f"not available yet in this version: {refused}" if refused else None


def available_engines() -> tuple[str, ...]:
    """The engine types that can be used."""
    return tuple(name for name in ENGINE_TYPES if not_yet("engine.type", name) is None)
