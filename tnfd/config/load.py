"""Reading the configuration: all layers, all keys, all problems at once.

Owns the way from flag, environment and file to one checked ``Config``. Changes nothing on disk.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tnfd.config.engines import read_engines
from tnfd.config.forms import nearest
from tnfd.config.layers import Document, Given, parse_document, read_beginning, read_document
from tnfd.config.lines import KeyPath
from tnfd.config.places import default_state_dir, find_file, folders, key_files, overlaps
from tnfd.config.privacy import beyond
from tnfd.config.reading import Reading, Table
from tnfd.config.schema import (
    INBOX,
    SECTIONS,
    BudgetConfig,
    Config,
    DaemonConfig,
    InboxConfig,
    PrivacyConfig,
    RetentionConfig,
)
from tnfd.errors import ConfigError, Problem
from tnfd.rules.voices import MOST_VOICES

_NONE: Mapping[str, object] = MappingProxyType({})


def load_config(
    flag: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] = _NONE,
    *,
    places: bool = True,
    watched: Collection[Path] = (),
) -> Config:
    """Load and check the configuration; without any file the defaults hold.

    ``flag`` is ``--config``. ``overrides`` holds what other flags set, by schema key: ``daemon.workers``;
    ``inbox.KEY`` for every inbox; ``engine.KEY`` for the chosen engine; None sets nothing. Without ``places``
    no folder and no key file is looked at (a share that hangs or is away must not stop ``tnfd status``).
    ``watched``: inboxes that need not be there, because a running daemon knows them already.

    Raises:
        ConfigError: with every problem that there is.
    """
    return _build(read_document(find_file(flag, environ)), environ, overrides, places=places, watched=watched)


def load_leniently(flag: Path | None, environ: Mapping[str, str]) -> tuple[Config, tuple[Problem, ...]]:
    """Load what can be understood, and say what is wrong with the rest; looks at no folder.

    For whoever wants to know of a daemon that still runs under the configuration of before the mistake.

    Raises:
        ConfigError: a file was named, and it is not there.
    """
    file = find_file(flag, environ)
    problems: tuple[Problem, ...] = ()
    try:
        document = read_document(file)
    except ConfigError as error:
        problems = tuple(error.problems)
        document = read_beginning(file, problems[0].line)
    reading = Reading(document, environ, _NONE)
    config = _read(reading, document, environ)
    return config, (*problems, *reading.problems)


def check_text(content: str, file: Path, environ: Mapping[str, str], *, places: bool = True) -> Config:
    """Load what is about to be written to ``file``.

    Raises:
        ConfigError: with every problem that there is.
    """
    return _build(parse_document(content.encode(), file), environ, _NONE, places=places)


def _build(
    document: Document,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    *,
    places: bool,
    watched: Collection[Path] = (),
) -> Config:
    reading = Reading(document, environ, overrides)
    config = _read(reading, document, environ)
    _check_speakers(reading, config, places=places)
    reading.report_findings(beyond(config, environ))
    if places:
        reading.report_findings(overlaps(config))
        reading.report_findings(folders(config, watched))
        reading.report_findings(key_files(config.engines, environ))
    if reading.problems:
        raise ConfigError(reading.problems)
    return config


def _read(reading: Reading, document: Document, environ: Mapping[str, str]) -> Config:
    reading.refuse_unknown(document.data, (), (*SECTIONS, "inbox", "engines"))
    _check_for_all_inboxes(reading)
    config = Config(
        daemon=DaemonConfig(**_section(reading, "daemon", {"state_dir": default_state_dir(environ)})),
        privacy=PrivacyConfig(**_section(reading, "privacy")),
        budget=BudgetConfig(**_section(reading, "budget")),
        retention=RetentionConfig(**_section(reading, "retention")),
        engines=read_engines(reading),
        inboxes=_named(_inboxes(reading)),
        sources=reading.sources,
        file=document.file,
    )
    _check_names(reading, config)
    _check_after(reading, config)
    return config


def _check_for_all_inboxes(reading: Reading) -> None:
    """Check what comes from outside for every inbox even where there is no inbox."""
    for layer in reading.layers:
        for schema_key, given in layer.items():
            table, _, name = schema_key.partition(".")
            if table == "inbox" and name != "path":
                reading.check(given, schema_key, INBOX[name])


def _section(
    reading: Reading, name: str, defaults: Mapping[str, tuple[Any, str]] = MappingProxyType({})
) -> dict[str, Any]:
    table = reading.document.data.get(name, {})
    if not isinstance(table, dict):
        reading.report_at((name,), f"expected a table, [{name}]")
        table = {}
    keys = SECTIONS[name]
    reading.refuse_unknown(table, (name,), keys)
    return {
        key.name: reading.pick(
            key,
            (name, name),
            [*reading.above(f"{name}.{key.name}"), *reading.in_file(table, (name,), key.name)],
            defaults.get(key.name),
        )
        for key in keys.values()
    }


def _inboxes(reading: Reading) -> list[InboxConfig]:
    found: list[InboxConfig] = []
    above = reading.above("inbox.path")
    if above:
        # The list from outside replaces the file's, as every stronger layer does.
        given = above[0]
        for folder in given.value if isinstance(given.value, list) else ():
            _inbox(reading, found, {}, (), [replace(given, value=folder)])
        return found
    tables = reading.document.data.get("inbox", [])
    if not isinstance(tables, list):
        reading.report_at(("inbox",), "expected [[inbox]], in double brackets, one for each folder")
        tables = []
    for index, table in enumerate(tables):
        path: KeyPath = ("inbox", index)
        if not isinstance(table, dict):
            reading.report_at(path, "expected a table, [[inbox]]")
            continue
        reading.refuse_unknown(table, path, INBOX)
        folder = reading.in_file(table, path, "path")
        if not folder:
            reading.report_at((*path, "path"), "missing: expected the folder to watch")
        _inbox(reading, found, table, path, folder)
    return found


def _inbox(
    reading: Reading, found: list[InboxConfig], table: Table, path: KeyPath, folder: list[Given]
) -> None:
    """Read one inbox; kept only if its folder is known."""
    values: dict[str, Any] = {}
    for key in INBOX.values():
        givens = [*reading.above(f"inbox.{key.name}"), *reading.in_file(table, path, key.name)]
        place = ("inbox", f"inbox[{len(found)}]")
        values[key.name] = reading.pick(key, place, folder if key.name == "path" else givens)
    if values["path"] is not None:
        found.append(InboxConfig(**values))


def _named(inboxes: Sequence[InboxConfig]) -> tuple[InboxConfig, ...]:
    """Name those that have no name after the last part of their path, each differently."""
    taken = {inbox.name for inbox in inboxes if inbox.name}
    named: list[InboxConfig] = []
    for inbox in inboxes:
        plain = inbox.path.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        plain = "".join(char if char.isprintable() else "_" for char in plain) or "inbox"
        name, count = inbox.name or plain, 1
        while not inbox.name and name in taken:
            count += 1
            name = f"{plain}-{count}"
        taken.add(name)
        named.append(replace(inbox, name=name))
    return tuple(named)


def _check_speakers(reading: Reading, config: Config, *, places: bool) -> None:
    """Samples belong to names, and an engine takes four."""
    for index, inbox in enumerate(config.inboxes):
        given = reading.chosen.get(f"inbox[{index}].speaker_samples")
        if given is None or not inbox.speaker_samples:
            continue
        names, samples = len(inbox.speaker_names), len(inbox.speaker_samples)
        if names != samples:
            reading.report(given, f"expected a sample for each of speaker_names: {names}, found {samples}")
        elif samples > MOST_VOICES:
            reading.report(given, f"engines take at most {MOST_VOICES} samples, found {samples}")
        for sample in inbox.speaker_samples if places else ():
            if not sample.is_file():
                reading.report(given, f"there is no file {sample}")


def _check_after(reading: Reading, config: Config) -> None:
    """What failed must not lie among what is done."""
    for index, inbox in enumerate(config.inboxes):
        same = os.path.normpath(inbox.done_dir) == os.path.normpath(inbox.failed_dir)
        if inbox.after == "move" and same:
            key = f"inbox[{index}].failed_dir"
            given = reading.chosen.get(key) or reading.chosen.get(f"inbox[{index}].done_dir")
            if given is not None:
                reading.report(given, f'done_dir and failed_dir are both "{inbox.failed_dir}"; use two')


def _check_names(reading: Reading, config: Config) -> None:
    """Names that stand twice, and engines that do not stand below."""
    seen: set[str] = set()
    tables = reading.document.data.get("engines", {})
    for index, inbox in enumerate(config.inboxes):
        given = reading.chosen.get(f"inbox[{index}].name")
        if given is not None and given.value:
            if inbox.name in seen:
                reading.report(given, f'there is another inbox named "{inbox.name}"')
            seen.add(inbox.name)
        given = reading.chosen.get(f"inbox[{index}].engine")
        if given is None or given.where != str(config.file):
            continue  # what comes from outside was checked with the engines
        for name in inbox.engine:
            if name not in config.engines and name not in tables:
                more = nearest(name, tuple(config.engines)) or f"; add [engines.{name}]"
                reading.report(given, f'unknown engine "{name}"{more}')
