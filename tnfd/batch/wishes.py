"""What the command line of a batch asks for, laid over the configuration; and which engine that means.

Reads the configuration; touches no recording.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tnfd.config import (
    Config,
    EngineConfig,
    InboxConfig,
    base_url_of,
    default_engine,
    load_config,
    no_engine,
    secret_of,
)
from tnfd.errors import CODES, ConfigError, Fault, Problem
from tnfd.wiring import installed_whisper, preflight

_FLAGS = {
    "inbox.formats": "--format",
    "inbox.output_dir": "--output-dir",
    "inbox.engine": "--engine",
    "engine.model": "--model",
    "inbox.language": "--language",
    "inbox.prompt": "--prompt",
    "inbox.keywords": "--keywords",
    "inbox.speakers": "--speakers",
    "inbox.include": "--pattern",
    "daemon.workers": "--concurrency",
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """The flags, as written; None and empty where a flag was not given."""

    paths: tuple[str, ...]
    config: Path | None = None
    concurrency: int | None = None
    formats: tuple[str, ...] = ()
    recursive: bool = True
    output_dir: str | None = None
    engine: str | None = None
    model: str | None = None
    language: str | None = None
    prompt: str | None = None
    keywords: tuple[str, ...] = ()
    speakers: str | None = None
    patterns: tuple[str, ...] = ()
    redo: bool = False

    @property
    def fixed(self) -> frozenset[str]:
        """Keys of an inbox that a folder's own settings have nothing to say about any more."""
        said = {
            "formats": self.formats, "engine": self.engine, "language": self.language, "prompt": self.prompt,
            "keywords": self.keywords, "speakers": self.speakers,
        }  # fmt: skip
        return frozenset(key for key, value in said.items() if value not in (None, ()))

    def fingerprint(self) -> str:
        """The same for the same command given in the same folder."""
        said = dataclasses.asdict(self) | {"config": str(self.config), "here": os.getcwd()}
        del said["concurrency"]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode("utf-8", "replace")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Setting:
    """The configuration that a batch runs with. ``plain`` is what files outside of any inbox get.

    ``assumed``: nobody has named an engine, so somebody has to agree to this one.
    """

    config: Config
    plain: InboxConfig
    assumed: bool


class WrongUsage(Exception):
    """The command line asks for something that cannot be; one problem a line."""


def load_setting(wishes: Wishes, environ: Mapping[str, str]) -> Setting:
    """Load the configuration under the flags.

    Raises:
        ConfigError: mistakes in file or environment; no engine can be used.
        WrongUsage: mistakes on the command line.
    """
    overrides = _overrides(wishes)
    assumed = False
    try:
        if wishes.engine is None and not (given := load_config(wishes.config, environ, places=False)).engines:
            model = installed_whisper(given, environ)
            overrides["inbox.engine"], assumed = ["openai" if model is None else "whisper"], model is None
            if model is not None:
                overrides.setdefault("engine.model", model)
        config = load_config(wishes.config, environ, overrides, places=False)
        here = {**overrides, "inbox.path": [os.getcwd()]}
        plain = load_config(wishes.config, environ, here, places=False).inboxes[0]
    except ConfigError as error:
        raise _translated(error) from None
    plain = dataclasses.replace(plain, name="")
    if wishes.concurrency is not None:
        config = dataclasses.replace(
            config,
            engines={name: _wider(engine, wishes.concurrency) for name, engine in config.engines.items()},
        )
    _require_key(config, environ, assumed=assumed)
    _require_local(config, environ)
    return Setting(config, plain, assumed)


def _overrides(wishes: Wishes) -> dict[str, object]:
    output_dir = None
    if wishes.output_dir is not None:
        output_dir = os.path.abspath(os.path.expanduser(wishes.output_dir))
    given: dict[str, object] = {
        "daemon.workers": wishes.concurrency,
        "inbox.formats": list(wishes.formats) or None,
        "inbox.output_dir": output_dir,
        "inbox.engine": None if wishes.engine is None else wishes.engine.split(","),
        "engine.model": wishes.model,
        "inbox.language": None if wishes.language is None else wishes.language.split(","),
        "inbox.prompt": wishes.prompt,
        "inbox.keywords": list(wishes.keywords) or None,
        "inbox.speakers": wishes.speakers,
        "inbox.include": list(wishes.patterns) or None,
    }
    return {key: value for key, value in given.items() if value is not None}


def _wider(engine: EngineConfig, concurrency: int) -> EngineConfig:
    if engine.type != "openai":
        return engine
    return dataclasses.replace(engine, max_concurrency=concurrency)


def _translated(error: ConfigError) -> Exception:
    """Mistakes of the command line in its own words."""
    said = [
        f"{_FLAGS.get(problem.key.partition('[')[0], problem.key)}: {problem.message}"
        for problem in error.problems
        if problem.where == "command line"
    ]
    if len(said) < len(error.problems):
        return error
    return WrongUsage("\n".join(dict.fromkeys(said)))


def _require_key(config: Config, environ: Mapping[str, str], *, assumed: bool) -> None:
    """Refuse to begin where the first request would find that there is no key for OpenAI."""
    engine = next(iter(config.engines.values()))
    if engine.type != "openai" or base_url_of(engine, environ) or secret_of(engine, environ) is not None:
        return
    where = str(config.file) if config.file else "configuration"
    if assumed:
        message = f"{no_engine()}; for this batch alone: --engine NAME (openai needs $OPENAI_API_KEY)"
        raise ConfigError([Problem(where, None, "engines", message)])
    code = CODES["engine.no_key"]
    raise ConfigError([Problem(where, None, f"engines.{engine.name}", f"{code.message} {code.hint}")])


def _require_local(config: Config, environ: Mapping[str, str]) -> None:
    """Refuse to begin where the engine's library or model is not there: files could only wait."""
    engine = next(iter(config.engines.values()))
    try:
        preflight(engine, config, environ)
    except Fault as fault:
        where = str(config.file) if config.file else "configuration"
        raise ConfigError(
            [Problem(where, None, f"engines.{engine.name}", f"{fault.message} {fault.hint}")]
        ) from None


def is_default(engine: EngineConfig) -> bool:
    """Whether an engine is what its type is without any setting."""
    return engine == default_engine(engine.type)
