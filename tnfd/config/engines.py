"""The engines of a configuration: the tables of the file, and those that are named from outside.

None is ever guessed: an engine stands in the file, or TNFD_ENGINE or a flag names it.
"""

from __future__ import annotations

from collections.abc import Mapping

from tnfd.config.forms import check_base_url, nearest
from tnfd.config.kinds import Mismatch
from tnfd.config.layers import Given
from tnfd.config.lines import KeyPath
from tnfd.config.reading import Reading, Table
from tnfd.config.schema import (
    DEFAULT_MODELS,
    ENGINE,
    ENGINE_TYPES,
    INBOX,
    EngineConfig,
    available_engines,
    keys_of_type,
    not_yet,
)


def read_engines(reading: Reading) -> dict[str, EngineConfig]:
    """All engines; those that command line or environment name come first."""
    tables = reading.document.data.get("engines", {})
    if not isinstance(tables, dict):
        reading.report_at(("engines",), "expected tables, [engines.NAME]")
        tables = {}
    naming, names = _named_from_outside(reading)
    target = names[0] if names else next(iter(tables), None)
    engines: dict[str, EngineConfig] = {}
    for name, table in tables.items():
        path: KeyPath = ("engines", name)
        if isinstance(table, dict):
            engines[name] = _engine(reading, name, table, path, chosen=name == target)
        else:
            reading.report_at(path, "expected a table, [engines.NAME] with a type")
    for name in names:
        if naming is None or name in tables:
            continue
        if name in ENGINE_TYPES:
            reading.check(_as_type(naming, name), "engine.type", ENGINE["type"])
            engines[name] = _engine(reading, name, {}, (), chosen=name == target)
            reading.sources[f"engines.{name}.type"] = naming.source
        else:
            choices = tuple(dict.fromkeys((*tables, *available_engines())))
            message = f'unknown engine "{name}"{nearest(name, choices)}; expected {" or ".join(choices)}'
            reading.report(naming, message)
    if target is None:
        _refuse_homeless(reading)
    _check_openai_url(reading, engines)
    first = [name for name in names if name in engines]
    return {name: engines[name] for name in dict.fromkeys((*first, *engines))}


def _as_type(naming: Given, name: str) -> Given:
    return Given(name, naming.where, naming.key, naming.origin)


def _named_from_outside(reading: Reading) -> tuple[Given | None, tuple[str, ...]]:
    for given in reading.above("inbox.engine"):
        try:
            return given, INBOX["engine"].kind.take(given.value, given.origin)
        except Mismatch:
            continue  # reported where all values from outside are checked
    return None, ()


def _refuse_homeless(reading: Reading) -> None:
    for layer in reading.layers:
        for schema_key, given in layer.items():
            if schema_key.startswith("engine."):
                reading.report(given, "there is no engine that it could belong to; set TNFD_ENGINE")


def _engine(reading: Reading, name: str, table: Table, path: KeyPath, *, chosen: bool) -> EngineConfig:
    engine_type = _type_of(reading, name, table, path)
    keys = keys_of_type(engine_type)
    wrong = f'engines of type "{engine_type}" do not have this key'
    reading.refuse_unknown([key for key in table if key not in ENGINE], path, keys)
    for key in table:
        if key in ENGINE and key not in keys:
            reading.report_at((*path, key), wrong)
    above = {key: reading.above(f"engine.{key}") if chosen else [] for key in ENGINE}
    for key in ENGINE:
        for given in () if key in keys else above[key]:
            reading.report(given, wrong)
    if above["base_url"] and above["base_url"][0].value != table.get("base_url", ""):
        # A key is never sent to a server that it was not written down for.
        table = {key: value for key, value in table.items() if not key.startswith("api_key_")}
    values = {
        key.name: reading.pick(
            key,
            ("engine", f"engines.{name}"),
            [*above[key.name], *reading.in_file(table, path, key.name)],
            (DEFAULT_MODELS[engine_type], "default") if key.name == "model" else None,
        )
        for key in keys.values()
        if key.name != "type"
    }
    values["model"] = values.get("model") or DEFAULT_MODELS[engine_type]
    return EngineConfig(name=name, type=engine_type, **values)


def _type_of(reading: Reading, name: str, table: Table, path: KeyPath) -> str:
    """The type; a table named like a type needs none. A wrong one is reported and read as openai."""
    givens = reading.in_file(table, path, "type")
    if not givens and path:
        if name not in ENGINE_TYPES:
            reading.report_at((*path, "type"), f"missing: expected one of {', '.join(ENGINE_TYPES)}")
        missing = not_yet("engine.type", name)
        if missing:
            reading.report_at((*path, "type"), missing)
    default = name if name in ENGINE_TYPES else "openai"
    return str(reading.pick(ENGINE["type"], ("engine", f"engines.{name}"), givens, (default, "default")))


def _check_openai_url(reading: Reading, engines: Mapping[str, EngineConfig]) -> None:
    wanted = any(engine.type == "openai" and not engine.base_url for engine in engines.values())
    complaint = check_base_url(reading.environ.get("OPENAI_BASE_URL", "")) if wanted else None
    if complaint:
        reading.report_variable("OPENAI_BASE_URL", complaint)
