"""The layers that a value may come from: command line, environment, file; each knows its place.

Reads the file and the environment; judges nothing but TOML's own syntax.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tnfd.config.kinds import Kind, Origin
from tnfd.config.lines import KeyPath, lines_of
from tnfd.config.places import here
from tnfd.config.schema import ENGINE, INBOX, SECTIONS
from tnfd.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Given:
    """One value as somebody wrote it; ``key`` is their name for it: ``inbox[0].formats``, TNFD_FORMATS."""

    value: object
    where: str  # the file's path, "environment" or "command line"
    key: str
    origin: Origin
    line: int | None = None
    item_lines: tuple[int | None, ...] = ()

    @property
    def source(self) -> str:
        """The place in a few words, as ``config show`` puts it behind the value."""
        if self.where == "environment":
            return f"${self.key}"
        return f"{self.where}:{self.line}" if self.line else self.where


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration file, parsed; empty where there is none."""

    file: Path | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def line_of(self, path: KeyPath) -> int | None:
        """The line of a key, or of the nearest table around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def given(self, path: KeyPath, value: object, environ: Mapping[str, str]) -> Given:
        """The value at ``path``, with its place."""
        assert self.file is not None  # noqa: S101  an empty document has no values
        items = len(value) if isinstance(value, list) else 0
        return Given(
            value,
            str(self.file),
            dotted(path),
            Origin(self.file.parent, environ),
            self.line_of(path),
            tuple(self.lines.get((*path, index)) for index in range(items)),
        )


def dotted(path: KeyPath) -> str:
    """``inbox[0].formats``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read_document(file: Path | None) -> Document:
    """Read and parse a file.

    Raises:
        ConfigError: it cannot be read, is not UTF-8, or is not TOML; with the line where that shows.
    """
    if file is None:
        return Document()
    try:
        content = file.read_bytes()
    except OSError as error:
        what = "is a folder" if isinstance(error, IsADirectoryError) else f"cannot be read: {error.strerror}"
        raise ConfigError([Problem(str(file), None, "", f"the configuration file {what}")]) from error
    return parse_document(content, file)


def read_beginning(file: Path | None, line: int | None) -> Document:
    """Read a file that is not TOML as far as it is: up to the line where that shows."""
    if file is None or line is None:
        return Document(file)
    try:
        content = b"\n".join(file.read_bytes().split(b"\n")[: line - 1])
        return parse_document(content, file)
    except (OSError, ConfigError):
        return Document(file)


def parse_document(content: bytes, file: Path) -> Document:
    """Parse what stands (or shall stand) in ``file``.

    Raises:
        ConfigError: it is not UTF-8, or not TOML.
    """
    line: int | None
    try:
        text = content.decode("utf-8-sig")  # editors on Windows leave a mark at the start
        return Document(file, tomllib.loads(text), lines_of(text))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = "not UTF-8; save the file in this encoding"
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
        line = int(found[1]) if found else text.rstrip().count("\n") + 1
        message = "not valid TOML: " + re.sub(r" \(at [^()]*\)$", "", message)
        message += f" (column {found[2]})" if found else ""
    except RecursionError:
        line, message = None, "not valid TOML: nested too deeply"
    raise ConfigError([Problem(str(file), line, "", message)]) from None


# -- environment and command line ------------------------------------------------------------------------
# Both give values for schema keys: "daemon.workers"; "inbox.KEY" for all inboxes (and "inbox.path" for the
# list of them); "engine.KEY" for the engine that inbox.engine names there, else the first of the file.

_INBOX_VARIABLES = {
    "TNFD_INBOX": "path",
    "TNFD_FORMATS": "formats",
    "TNFD_LANGUAGE": "language",
    "TNFD_WATCH": "watch",
}
_ENGINE_VARIABLES = {
    "TNFD_MODEL": "model",
    "TNFD_BASE_URL": "base_url",
    "TNFD_API_KEY_FILE": "api_key_file",
    "TNFD_API_KEY_ENV": "api_key_env",
}


def _variables() -> dict[str, tuple[str, Kind]]:
    found = {
        f"TNFD_{key.name.upper()}": (f"{section}.{key.name}", key.kind)
        for section, keys in SECTIONS.items()
        for key in keys.values()
    }
    found |= {variable: (f"inbox.{name}", INBOX[name].kind) for variable, name in _INBOX_VARIABLES.items()}
    found["TNFD_ENGINE"] = ("inbox.engine", INBOX["engine"].kind)
    found |= {variable: (f"engine.{name}", ENGINE[name].kind) for variable, name in _ENGINE_VARIABLES.items()}
    return found


VARIABLES = _variables()  # environment variable -> schema key, kind
OTHER_VARIABLES = frozenset({"TNFD_CONFIG"})


def from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """What the environment sets. An empty variable sets nothing: compose files pass those on unasked."""
    found: dict[str, Given] = {}
    for variable, (key, kind) in VARIABLES.items():
        text = environ.get(variable, "")
        if text.strip():
            value: object = kind.from_text(text)
            if key == "inbox.path":
                value = [part for part in text.split(os.pathsep) if part]
            found[key] = Given(value, "environment", variable, here(environ))
    return found


def from_overrides(overrides: Mapping[str, object], environ: Mapping[str, str]) -> dict[str, Given]:
    """What the command line sets; None sets nothing.

    Raises:
        ValueError: a key that the schema does not have (a bug in the caller).
    """
    known = {f"{section}.{name}" for section, keys in SECTIONS.items() for name in keys}
    known |= {f"inbox.{name}" for name in INBOX} | {f"engine.{name}" for name in ENGINE if name != "type"}
    found: dict[str, Given] = {}
    for key, value in overrides.items():
        if key not in known:
            raise ValueError(f"no such key: {key}")
        if value is None:
            continue
        plain = str(value) if isinstance(value, Path) else value
        if key == "inbox.path":
            paths = value if isinstance(value, list | tuple) else [value]
            plain = [str(path) for path in paths]
        found[key] = Given(plain, "command line", key, here(environ))
    return found
