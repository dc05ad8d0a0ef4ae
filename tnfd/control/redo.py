"""What a redo would do: which jobs, under which settings, how much audio, what it costs. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tnfd.config import Config, base_url_of, choice_of, resolve_settings
from tnfd.errors import ConfigError
from tnfd.model import EngineChoice, Job, JobSettings, JobState, StatKey
from tnfd.ports.clock import Clock
from tnfd.rules.estimate import estimate_audio_s
from tnfd.rules.profile import profile_of

FINISHED = (JobState.DONE, JobState.PARTIAL, JobState.DUPLICATE)


@dataclass(frozen=True, slots=True)
class RedoItem:
    """One job that can be done again. ``pays``: the first of its content; its copies share what it gets."""

    job: Job
    settings: JobSettings
    stat: StatKey
    audio_s: float
    usd_per_minute: float
    pays: bool

    @property
    def cost_usd(self) -> float:
        """What it may cost."""
        return self.audio_s / 60 * self.usd_per_minute if self.pays else 0.0


@dataclass(frozen=True, slots=True)
class RedoPlan:
    """``refused``: jobs that cannot be done again, each with why and what next."""

    items: tuple[RedoItem, ...]
    refused: tuple[tuple[Job, str], ...]
    engines: tuple[str, ...]  # for people: name, model, server
    may_cost: bool  # a price is known, or the server is somebody else's

    @property
    def audio_s(self) -> float:
        """Seconds of audio to be transcribed; a content counts once."""
        return sum(item.audio_s for item in self.items if item.pays)

    @property
    def cost_usd(self) -> float:
        """Dollars, as far as prices are known."""
        return sum(item.cost_usd for item in self.items)


def plan_redo(
    config: Config, environ: Mapping[str, str], clock: Clock, jobs: Sequence[Job], engine: str | None
) -> RedoPlan:
    """Look at each job's file and settings; ``engine`` replaces the ones that the inbox asks for.

    Raises:
        KeyError: there is no such engine.
    """
    from tnfd.wiring import build_engine, scope_of

    inboxes = {scope_of(inbox): inbox for inbox in config.inboxes}
    chosen = None if engine is None else choice_of(config.engines[engine])
    prices: dict[str, float] = {}
    items: list[RedoItem] = []
    refused: list[tuple[Job, str]] = []
    paid: set[tuple[str | None, str]] = set()
    for job in jobs:
        inbox = inboxes.get(job.scope)
        if inbox is None or (why := _why_not(job)):
            refused.append(
                (job, why if inbox else "no configured inbox holds it; run: tnfd batch --redo FILE")
            )
            continue
        try:
            stat, settings = _look(job, resolve_settings(config, inbox), chosen)
        except ConfigError as error:
            refused.append((job, str(error)))
            continue
        if stat is None:
            refused.append((job, "the file is gone or has changed; the daemon takes it when it is there"))
            continue
        if not settings.engines:
            refused.append((job, "no engine is configured; run: tnfd init"))
            continue
        name = settings.engines[0].name
        if name not in prices:
            built = build_engine(config.engines[name], config, environ, clock)
            prices[name] = built.capabilities.usd_per_minute
        content = (job.sha256, profile_of(settings))
        items.append(RedoItem(job, settings, stat, _audio_s(job), prices[name], content not in paid))
        paid.add(content)
    return RedoPlan(
        tuple(items),
        tuple(refused),
        tuple(_shown(config, environ, name) for name in prices),
        any(price or _is_public(config, environ, name) for name, price in prices.items()),
    )


def _why_not(job: Job) -> str:
    """Say why a job cannot be done again, by what is known of it; empty: it can."""
    if not job.state.final:
        return f"it is {job.state}: nothing to do again yet"
    if job.sha256 is None or job.state is JobState.VANISHED:
        return f"it {job.state} before it was transcribed; run: tnfd retry"
    return ""


def _look(job: Job, base: JobSettings, chosen: EngineChoice | None) -> tuple[StatKey | None, JobSettings]:
    """The file's stat, if nothing says that its content is another one, and what holds in its folder now.

    Raises:
        ConfigError: a ``.tnfd.toml`` there or above has a mistake.
    """
    from tnfd.config.subtree import Subtrees
    from tnfd.intake.subtree import FolderSettings
    from tnfd.root import Root

    subtrees = Subtrees(Path(os.fsdecode(job.source.root)), base, () if chosen is None else ("engine",))
    folder = job.present.rel.rpartition(b"/")[0]
    try:
        with Root(job.source.root) as root:
            stat = root.stat_key(job.present.rel)
            held = FolderSettings(root, subtrees).of_all([folder])[folder]
    except OSError:
        return None, base
    if isinstance(held, ConfigError):
        raise held
    settings = held if chosen is None else replace(held, engines=(chosen,))
    return (stat if stat is not None and stat.same_content(job.source.stat) else None), settings


def _audio_s(job: Job) -> float:
    if job.media is not None and job.media.duration_s:
        return job.media.duration_s
    return estimate_audio_s(os.fsdecode(job.source.name), job.source.stat.size_bytes)


def _is_public(config: Config, environ: Mapping[str, str], name: str) -> bool:
    from tnfd.engines.profiles import host_of, is_private_host

    url = base_url_of(config.engines[name], environ)
    return bool(url) and not is_private_host(host_of(url) or "")


def _shown(config: Config, environ: Mapping[str, str], name: str) -> str:
    engine = config.engines[name]
    if engine.type != "openai":
        return f"{name}, on this machine"
    return f"{name} ({engine.model}) at {base_url_of(engine, environ) or 'OpenAI'}"
