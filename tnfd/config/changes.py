"""What differs between two configurations, as far as a running daemon has to act on it. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tnfd.config.schema import Config, InboxConfig
from tnfd.config.settings import resolve_settings
from tnfd.errors import Problem

_TABLES = ("daemon", "privacy", "budget", "retention")


@dataclass(frozen=True, slots=True)
class Changes:
    """``keys``: dotted names of what changed, for people. Inboxes are told apart by their folder.

    ``engines``: names of those that are gone, new or set otherwise. ``refused``: what only a restart changes.
    """

    keys: tuple[str, ...]
    added: tuple[InboxConfig, ...]
    removed: tuple[InboxConfig, ...]
    changed: tuple[InboxConfig, ...]  # as they are now
    engines: frozenset[str]
    refused: tuple[Problem, ...]


def changes_between(old: Config, new: Config) -> Changes:
    """Compare; both are configurations that the daemon could run with."""
    before = {inbox.path: inbox for inbox in old.inboxes}
    after = {inbox.path: inbox for inbox in new.inboxes}
    return Changes(
        keys=tuple(_keys(old, new)),
        added=tuple(inbox for path, inbox in after.items() if path not in before),
        removed=tuple(inbox for path, inbox in before.items() if path not in after),
        changed=tuple(
            inbox
            for path, inbox in after.items()
            if path in before and _seen(old, before[path]) != _seen(new, inbox)
        ),
        engines=frozenset(
            name
            for name in (*old.engines, *new.engines)
            if old.engines.get(name) != new.engines.get(name) or old.privacy != new.privacy
        ),
        refused=tuple(_refused(old, new)),
    )


def _seen(config: Config, inbox: InboxConfig) -> tuple[Any, ...]:
    """All that the watcher of an inbox goes by; the engine's model is part of what its jobs ask for."""
    inside = frozenset(other.path for other in config.inboxes if inbox.path in other.path.parents)
    return inbox, resolve_settings(config, inbox), inside


def _refused(old: Config, new: Config) -> Iterator[Problem]:
    if old.daemon.state_dir != new.daemon.state_dir:
        message = (
            f"the state folder of a running daemon cannot change ({old.daemon.state_dir} to"
            f" {new.daemon.state_dir}): restart it"
        )
        yield Problem(str(new.file or "configuration"), None, "daemon.state_dir", message)


def _keys(old: Config, new: Config) -> Iterator[str]:
    for table in _TABLES:
        yield from (f"{table}.{name}" for name in _fields(getattr(old, table), getattr(new, table)))
    for name in dict.fromkeys((*old.engines, *new.engines)):
        one, other = old.engines.get(name), new.engines.get(name)
        if one is None or other is None:
            yield f"engines.{name}"
        else:
            yield from (f"engines.{name}.{field}" for field in _fields(one, other))
    before = {inbox.path: inbox for inbox in old.inboxes}
    after = {inbox.path: inbox for inbox in new.inboxes}
    for path in dict.fromkeys((*before, *after)):
        was, now = before.get(path), after.get(path)
        if was is None or now is None:
            yield f"inbox {(was or now or new.inboxes[0]).name}"
        else:
            yield from (f"inbox {now.name}.{field}" for field in _fields(was, now))


def _fields(one: Any, other: Any) -> list[str]:
    """Names of the fields in which two records of one kind differ."""
    return [
        item.name for item in dataclasses.fields(one) if getattr(one, item.name) != getattr(other, item.name)
    ]
