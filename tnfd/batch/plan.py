"""What a batch is about to do: which files, what of them is owed, about how much audio and money.

Walks folders and reads the store; changes nothing, so that a dry run is this and no more.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tnfd.batch.board import Item
from tnfd.batch.targets import Target, anchored, find_targets
from tnfd.batch.wishes import Setting, Wishes
from tnfd.clock import SystemClock
from tnfd.config import Config, EngineConfig, base_url_of, resolve_settings
from tnfd.config.subtree import Subtrees
from tnfd.errors import ConfigError, Fault
from tnfd.intake.look import stat_key
from tnfd.intake.scan import SLICE, Entry, Walk
from tnfd.intake.subtree import FolderSettings
from tnfd.model import FileRef, JobState, StatKey
from tnfd.ports.batch import Former
from tnfd.ports.claims import NAMELESS, Origin
from tnfd.root import Root
from tnfd.rules.estimate import HEAD_BYTES, TELLING, estimate_audio_s
from tnfd.rules.ignore import Ignore, NameRules, decide_name
from tnfd.rules.order import plan_order
from tnfd.rules.profile import profile_of
from tnfd.wiring import build_engine, read_formers, read_redo, scope_of

_DONE = (JobState.DONE, JobState.DUPLICATE)


@dataclass(frozen=True, slots=True)
class Price:
    """An engine of a batch: where audio goes and what a minute of it costs (0: free, or not known)."""

    name: str
    type: str
    model: str
    host: str  # "" for engines on this machine
    usd_per_minute: float
    max_concurrency: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """Before anything was opened: files, and by their sizes seconds of audio and dollars."""

    files: int
    already: int
    render: int
    todo: int
    size_bytes: int
    audio_s: float
    cost_usd: float
    engines: tuple[Price, ...]


@dataclass(slots=True)
class Plan:
    """Everything that was found. ``ignored``: path and why; ``left_out``: folder and what is wrong."""

    wishes: Wishes
    setting: Setting
    items: list[Item] = field(default_factory=list)
    ignored: list[tuple[bytes, str]] = field(default_factory=list)
    left_out: dict[bytes, str] = field(default_factory=dict)
    settle_s: dict[bytes, float] = field(default_factory=dict)
    redo_since: float | None = None  # when the redo began that this one goes on with

    @property
    def config(self) -> Config:
        """The configuration to run with."""
        return self.setting.config


def make_plan(wishes: Wishes, setting: Setting) -> Plan:
    """Find the files and what the store knows of them.

    Raises:
        WrongUsage: something that was named is not there.
        StoreUnusable: there is a database, and it cannot be read.
    """
    plan = Plan(wishes, setting)
    state_dir = os.fsencode(os.path.realpath(setting.config.daemon.state_dir))
    for target in find_targets(wishes.paths, setting.config):
        _survey(plan, target, state_dir)
    _match(plan)
    if wishes.redo:
        plan.redo_since = read_redo(plan.config, wishes.fingerprint())
    order = plan_order([item.about_s for item in plan.items], setting.config.daemon.workers)
    plan.items = [plan.items[index] for index in order]
    for rank, item in enumerate(plan.items):
        item.priority = len(order) - rank
    return plan


def _survey(plan: Plan, target: Target, state_dir: bytes) -> None:
    inbox = target.inbox or replace(plan.setting.plain, path=Path(os.fsdecode(target.root)))
    settings = resolve_settings(plan.config, inbox)
    scope = scope_of(inbox) if target.inbox else ""
    plan.settle_s[target.root] = inbox.settle_s
    skip = [state_dir[len(target.root.rstrip(b"/")) + 1 :]] if _inside(state_dir, target.root) else []
    if settings.after == "move":
        skip += [os.fsencode(settings.done_dir), os.fsencode(settings.failed_dir)]
    found: dict[bytes, Entry] = {}
    with Root(target.root) as root:
        for folder in target.folders:
            include = tuple(anchored(glob, folder) for glob in plan.wishes.patterns)
            exclude = inbox.exclude if target.inbox else ()
            rules = NameRules(include, exclude, tuple(skip))
            walk = Walk(root, rules, folder, recursive=plan.wishes.recursive)
            entries: list[Entry] | None = None
            while entries is None or len(entries) == SLICE:
                entries = walk.next_slice()
                found.update((entry.rel, entry) for entry in entries)
            plan.left_out.update(
                {os.path.join(target.root, below): why for below, why in walk.unreadable.items()}
            )
        for rel in target.files:
            taken = decide_name(rel.rpartition(b"/")[2], NameRules())
            st = root.look(rel)
            if isinstance(taken, Ignore):
                plan.ignored.append((os.path.join(target.root, rel), taken.reason))
            elif st is not None:
                found[rel] = Entry(rel, stat_key(st), taken.flags)
        subtrees = Subtrees(inbox.path, settings, plan.wishes.fixed)
        held = FolderSettings(root, subtrees).of_all({_folder(rel) for rel in found})
        heads = {rel: _head(root, rel) for rel in found if _extension(rel) in TELLING}
    name = inbox.name if target.inbox else NAMELESS
    for rel, entry in found.items():
        holds = held[_folder(rel)]
        if isinstance(holds, ConfigError):
            plan.left_out[os.path.dirname(os.path.join(target.root, rel))] = "; ".join(
                map(str, holds.problems)
            )
            continue
        origin = Origin(scope, name, holds)
        about_s = estimate_audio_s(os.fsdecode(rel), entry.stat.size_bytes, heads.get(rel, b""))
        ref = FileRef(target.root, rel, entry.stat)
        plan.items.append(Item(ref, origin, about_s, target.inbox is not None, flags=entry.flags))


def _folder(rel: bytes) -> bytes:
    return rel.rpartition(b"/")[0]


def _extension(rel: bytes) -> str:
    return os.fsdecode(rel).rpartition(".")[2].lower()


def _head(root: Root, rel: bytes) -> bytes:
    """The first bytes of a file; empty where it cannot be read, which intake will say."""
    try:
        fd, _ = root.open_source(rel)
    except Fault:
        return b""
    try:
        return os.read(fd, HEAD_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _match(plan: Plan) -> None:
    """Tell each item which jobs its path has; a path that was reached twice counts once."""
    seen: dict[bytes, Item] = {}
    for item in plan.items:
        seen.setdefault(item.ref.path, item)
    plan.items = list(seen.values())
    roots = sorted({item.ref.root for item in plan.items})
    outermost = [root for root in roots if not any(_inside(root, other) for other in roots if other != root)]
    for folder, formers in read_formers(plan.config, outermost).items():
        if folder in seen:
            seen[folder].formers = tuple(formers)


def _inside(path: bytes, folder: bytes) -> bool:
    return path.startswith(folder.rstrip(b"/") + b"/")


# -- what is owed for a file -------------------------------------------------------------------------------


def same_file(one: StatKey, other: StatKey) -> bool:
    """Whether two stats show the same file unchanged (the number of its device changes at reboots)."""
    return replace(one, dev=0) == replace(other, dev=0)


def former_of(item: Item, stat: StatKey, sha256: str | None) -> Former | None:
    """The job that this file has under these settings, by its content or, that unknown, by its stat."""
    profile = profile_of(item.origin.settings)
    for former in item.formers:
        same = former.sha256 == sha256 if sha256 is not None else same_file(former.stat, stat)
        if same:
            return former if former.profile == profile else _of_profile(item, former.sha256, profile)
    return None


def _of_profile(item: Item, sha256: str, profile: str) -> Former | None:
    return next((one for one in item.formers if (one.sha256, one.profile) == (sha256, profile)), None)


def outputs_wanted(item: Item, former: Former) -> dict[str, bytes]:
    """Where the outputs lie that a former job wrote to where this batch wants them: format -> path."""
    folder = os.path.dirname(item.ref.rel)
    base = os.fsencode(item.origin.settings.output_dir) or item.ref.root
    place = os.path.join(base, folder) if folder else base
    return {format: os.path.join(place, name) for format, where, name in former.outputs if where == place}


def _owes(item: Item, *, anew_before: float) -> str:
    """What an item owes, by a look from outside: nothing ("already"), outputs alone ("render"), or all."""
    former = former_of(item, item.ref.stat, None)
    if former is None or former.begun_at < anew_before:
        return "todo"
    if former.state in _DONE:
        wanted = outputs_wanted(item, former)
        here = {format for format, path in wanted.items() if os.path.lexists(path)}
        if here.issuperset(item.origin.settings.formats):
            return "already"
    return "render" if former.transcribed else "todo"


def owed(plan: Plan) -> dict[int, str]:
    """What each item owes (by ``id``)."""
    anew_before = 0.0
    if plan.wishes.redo:
        anew_before = math.inf if plan.redo_since is None else plan.redo_since
    return {id(item): _owes(item, anew_before=anew_before) for item in plan.items}


def estimate(plan: Plan, environ: Mapping[str, str], owes: Mapping[int, str]) -> Estimate:
    """Sum up what is owed."""
    prices = {name: price_of(engine, plan.config, environ) for name, engine in plan.config.engines.items()}
    used: dict[str, None] = {}
    audio_s = cost_usd = 0.0
    counts = {"already": 0, "render": 0, "todo": 0}
    for item in plan.items:
        what = owes[id(item)]
        counts[what] += 1
        name = item.origin.settings.engines[0].name
        if what == "todo":
            used[name] = None
            audio_s += item.about_s
            cost_usd += item.about_s / 60 * prices[name].usd_per_minute
    return Estimate(
        files=len(plan.items),
        size_bytes=sum(item.ref.stat.size_bytes for item in plan.items),
        audio_s=audio_s,
        cost_usd=cost_usd,
        engines=tuple(prices[name] for name in used),
        **counts,
    )


def price_of(engine: EngineConfig, config: Config, environ: Mapping[str, str]) -> Price:
    """Where an engine sends audio, and its price."""
    can = build_engine(engine, config, environ, SystemClock()).capabilities
    host = ""
    if engine.type == "openai":
        url = base_url_of(engine, environ)
        host = url.partition("://")[2].partition("/")[0].rpartition("@")[2] if url else "api.openai.com"
    return Price(engine.name, engine.type, engine.model, host, can.usd_per_minute, can.max_concurrency)
