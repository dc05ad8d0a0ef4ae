"""Settings of a part of an inbox: the ``.tnfd.toml`` files in its folders, checked like the main file.

Whoever may write into an inbox may write one, so it can do less than the configuration: choose among the
engines that the inbox lists, and turn ``after`` only towards "keep". Reads no disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from tnfd.config.forms import nearest
from tnfd.config.kinds import Mismatch
from tnfd.config.layers import Document, parse_document
from tnfd.config.schema import INBOX, not_yet
from tnfd.errors import ConfigError, Problem
from tnfd.model import JobSettings
from tnfd.ports.claims import Layers

KEYS = ("language", "prompt", "keywords", "formats", "speakers", "name_format", "engine", "after")


class Subtrees:
    """Resolves what holds in a folder; ``base`` is what holds in the inbox. See ``ports.claims.Subtrees``.

    ``fixed``: keys of which somebody has said otherwise at the command line, which has the last word.
    """

    def __init__(self, inbox: Path, base: JobSettings, fixed: Collection[str] = ()) -> None:
        self._inbox = inbox
        self._base = base
        self._fixed = frozenset(fixed)
        self._resolved: Callable[[Layers], JobSettings] = lru_cache(maxsize=1000)(self._resolve)

    def resolve(self, layers: Layers) -> JobSettings:
        """Lay the files of a folder and of those above it over one another, the outermost first.

        Raises:
            ConfigError: with every problem that there is.
        """
        return self._resolved(layers)

    def _resolve(self, layers: Layers) -> JobSettings:
        settings, problems = self._base, list[Problem]()
        for folder, content in layers:
            file = self._inbox / os.fsdecode(folder) / ".tnfd.toml"
            try:
                settings = _laid_over(settings, parse_document(content, file), self._fixed)
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        return settings


def _laid_over(settings: JobSettings, document: Document, fixed: frozenset[str]) -> JobSettings:
    problems: list[Problem] = []
    values: dict[str, Any] = {}

    def report(name: str, message: str, item: int | None = None) -> None:
        line = document.line_of((name,) if item is None else (name, item))
        problems.append(Problem(str(document.file), line, name, message))

    for name, written in document.data.items():
        if name not in KEYS:
            elsewhere = "; it is set for a whole inbox alone" if name in INBOX else nearest(name, KEYS)
            report(name, f"unknown key{elsewhere}")
            continue
        try:
            value = INBOX[name].kind.take(written, document.given((name,), written, {}).origin)
        except Mismatch as mismatch:
            for item, message in mismatch.found:
                report(name, message, item)
            continue
        if missing := not_yet(f"inbox.{name}", value):
            report(name, missing)
        if name not in fixed:
            values[name] = value
    for name, message in _refused(settings, values):
        report(name, message)
    if problems:
        raise ConfigError(problems)
    return _changed(settings, values)


def _refused(settings: JobSettings, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    listed = [engine.name for engine in settings.engines]
    for name in values.get("engine", ()):
        if name not in listed:
            choices = ", ".join(listed) or "none"
            yield "engine", f'"{name}" is not among the engines of this inbox ({choices})'
    if values.get("after", "keep") not in ("keep", settings.after):
        yield "after", f'expected "keep"; a folder cannot ask for more than its inbox ("{settings.after}")'


def _changed(settings: JobSettings, values: Mapping[str, Any]) -> JobSettings:
    engines = {engine.name: engine for engine in settings.engines}
    wanted: Sequence[str] = values.get("engine") or tuple(engines)
    plain = ("prompt", "keywords", "formats", "speakers", "name_format", "after")
    changes = {name: values[name] for name in plain if name in values}
    if "language" in values:
        changes["languages"] = values["language"]
    return replace(settings, engines=tuple(engines[name] for name in wanted), **changes)
