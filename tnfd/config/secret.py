"""Keys: where one is found for an engine, and a wrapper that never shows it.

A key is never sent to a server that it was not written down for: $OPENAI_API_KEY and the systemd credential
belong to engines without ``base_url`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from tnfd.config.places import key_file_complaint
from tnfd.config.schema import EngineConfig
from tnfd.errors import ConfigError, Problem

CREDENTIAL = "openai-api-key"
_LONGEST_KEY = 8192


class Secret:
    """A key. Logs, tracebacks and dumps show ``***``; ``source`` says where it was found."""

    __slots__ = ("_value", "source")

    def __init__(self, value: str, source: str) -> None:
        self._value = value
        self.source = source

    def reveal(self) -> str:
        """The key itself, for the request's header alone."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret does not leave its process")


def base_url_of(engine: EngineConfig, environ: Mapping[str, str]) -> str:
    """The server's address; empty: OpenAI itself."""
    return engine.base_url or (environ.get("OPENAI_BASE_URL", "") if engine.type == "openai" else "")


def secret_of(engine: EngineConfig, environ: Mapping[str, str]) -> Secret | None:
    """Find an engine's key; None where there is none (private servers often want none).

    What was written down counts alone: with ``api_key_env`` naming an empty variable there is no key.

    Raises:
        ConfigError: the key file is missing, readable by others, or holds something else than a key.
    """
    key = f"engines.{engine.name}"
    if engine.type != "openai":
        return None
    if engine.api_key_file is not None:
        complaint = key_file_complaint(engine.api_key_file, environ)
        if complaint:
            raise ConfigError([Problem("configuration", None, f"{key}.api_key_file", complaint)])
        return _from_file(engine.api_key_file, f"{key}.api_key_file", str(engine.api_key_file))
    if engine.api_key_env:
        return _from_variable(engine.api_key_env, environ)
    if engine.base_url:
        return None
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    if folder and Path(folder, CREDENTIAL).is_file():
        return _from_file(Path(folder, CREDENTIAL), key, f"credential {CREDENTIAL}")
    return _from_variable("OPENAI_API_KEY", environ)


def _from_file(path: Path, key: str, source: str) -> Secret | None:
    try:
        with path.open("rb") as handle:
            content = handle.read(_LONGEST_KEY + 1)
    except OSError as error:
        message = f"the key file cannot be read: {path}: {error.strerror}"
        raise ConfigError([Problem("configuration", None, key, message)]) from error
    return _checked(content.decode("utf-8", "replace"), key, source)


def _from_variable(name: str, environ: Mapping[str, str]) -> Secret | None:
    return _checked(environ.get(name, ""), name, f"${name}")


def key_complaint(value: str) -> str | None:
    """Say why this cannot be a key; never shows it."""
    # It becomes a header's value: anything else would fail later, in words that show it.
    if len(value) > _LONGEST_KEY or not value.isascii() or not value.isprintable() or " " in value:
        return "expected one key and nothing else: one word of plain characters"
    return None


def _checked(written: str, key: str, source: str) -> Secret | None:
    value = written.strip().removeprefix("\ufeff").strip()
    if not value:
        return None
    if (message := key_complaint(value)) is not None:
        where = "environment" if source.startswith("$") else "configuration"
        raise ConfigError([Problem(where, None, key, message)])
    return Secret(value, source)
