"""The effective configuration as TOML, each value with its source.

Keys are never shown, only whether there is one and where it was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w

from tnfd.config.schema import INBOX, SECTIONS, Config, EngineConfig, Key, keys_of_type
from tnfd.config.secret import base_url_of, secret_of
from tnfd.errors import ConfigError


def effective_toml(config: Config, environ: Mapping[str, str]) -> str:
    """Write the whole configuration; read back as a file it means the same."""
    lines = [f"# file: {config.file or 'none; defaults and environment'}"]
    lines += _table("[daemon]", SECTIONS["daemon"], config.daemon, "daemon", config)
    for index, inbox in enumerate(config.inboxes):
        lines += _table("[[inbox]]", INBOX, inbox, f"inbox[{index}]", config)
    for name, engine in config.engines.items():
        header = tomli_w.dumps({"engines": {name: {}}}).strip()
        lines += _table(header, keys_of_type(engine.type), engine, f"engines.{name}", config)
        lines += _environment_of(engine, environ)
    for section, record in (
        ("privacy", config.privacy),
        ("budget", config.budget),
        ("retention", config.retention),
    ):
        lines += _table(f"[{section}]", SECTIONS[section], record, section, config)
    # What the operating system gave as bytes that are not UTF-8 is shown, not reproduced.
    return "\n".join(lines).encode("utf-8", "backslashreplace").decode() + "\n"


def _table(header: str, keys: Mapping[str, Key], record: object, place: str, config: Config) -> Iterator[str]:
    yield ""
    yield header
    for key in keys.values():
        value = key.kind.to_toml(getattr(record, key.name))
        # An inbox without a name of its own is named after its folder.
        source = config.sources.get(f"{place}.{key.name}", "default")
        yield f"{assignment(key.name, value)}  # {' '.join(source.split())}"


def assignment(name: str, value: Any) -> str:
    """Write ``name = value`` on one line."""
    # tomli-w puts each element on a line of its own; line breaks inside of texts are escaped.
    first, *rest = tomli_w.dumps({name: value}).rstrip("\n").split("\n")
    return first + " ".join(line.strip() for line in rest).removesuffix(", ]").removesuffix(",]") + _end(rest)


def _end(rest: list[str]) -> str:
    return "]" if rest else ""


def _environment_of(engine: EngineConfig, environ: Mapping[str, str]) -> Iterator[str]:
    """What does not stand in the configuration and counts nevertheless."""
    if engine.type != "openai":
        return
    url = base_url_of(engine, environ)
    if url != engine.base_url:
        yield f"# server: {url}  ($OPENAI_BASE_URL)"
    try:
        secret = secret_of(engine, environ)
    except ConfigError as error:
        yield f"# key: {error.problems[0].message}"
        return
    yield f"# key: {secret} ({secret.source})" if secret else "# key: none"
