"""What an inbox asks for, resolved for the jobs of its files."""

from __future__ import annotations

from tnfd.config.schema import Config, EngineConfig, InboxConfig, available_engines
from tnfd.errors import ConfigError, Problem
from tnfd.model import EngineChoice, JobSettings


def choice_of(engine: EngineConfig) -> EngineChoice:
    """The engine as jobs record it."""
    return EngineChoice(engine.name, engine.type, engine.model)


def resolve_settings(config: Config, inbox: InboxConfig) -> JobSettings:
    """Freeze what an inbox asks for. Without any engine configured ``engines`` is empty.

    Raises:
        KeyError: the inbox names an engine that the configuration does not have; loading has refused that.
    """
    names = inbox.engine or tuple(config.engines)[:1]
    return JobSettings(
        engines=tuple(choice_of(config.engines[name]) for name in names),
        formats=inbox.formats,
        name_format=inbox.name_format,
        output_dir=str(inbox.output_root or ""),
        languages=inbox.language,
        audio_languages=inbox.audio_language,
        prompt=inbox.prompt,
        keywords=inbox.keywords,
        speakers=inbox.speakers,
        speaker_names=inbox.speaker_names,
        speaker_samples=tuple(map(str, inbox.speaker_samples)),
        on_duplicate=inbox.on_duplicate,
        after=inbox.after,
        done_dir=inbox.done_dir,
        failed_dir=inbox.failed_dir,
        status=inbox.status,
    )


def require_runnable(config: Config) -> None:
    """Refuse a configuration that the daemon could do nothing with.

    Raises:
        ConfigError: no inbox, or no engine; with what to do about it.
    """
    where = str(config.file) if config.file else "configuration"
    problems: list[Problem] = []
    if not config.inboxes:
        message = (
            "no inbox to watch: add [[inbox]] with a path, set TNFD_INBOX, or run: tnfd init --inbox DIR"
        )
        problems.append(Problem(where, None, "inbox", message))
    if not config.engines:
        problems.append(Problem(where, None, "engines", no_engine()))
    if problems:
        raise ConfigError(problems)


def no_engine() -> str:
    """One sentence for whoever has not chosen an engine."""
    names = " or ".join(available_engines())
    return (
        "no engine is chosen, and none is ever guessed: "
        f"run tnfd init --engine NAME, or set TNFD_ENGINE; NAME is {names}"
    )
