"""What the service may reach: the folders of the configuration, and what tnfd itself is made of. Pure.

Everything else is hidden or read-only for it. Decides; renders nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tnfd.config import Config
from tnfd.errors import Problem
from tnfd.service.target import Target

# What systemd's ProtectHome=tmpfs and PrivateTmp=yes put an empty folder over.
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The paths, each once, none inside another of its own kind.

    ``written``: files are made here. ``read``: needed, but never changed. ``whisper``: a local model is run,
    which takes memory and perhaps a graphics card. ``local_only``: nothing goes beyond private addresses.
    """

    written: tuple[Path, ...]
    read: tuple[Path, ...]
    whisper: bool
    local_only: bool


@dataclass(frozen=True, slots=True)
class Program:
    """How tnfd is started, and the folders it is made of."""

    command: tuple[str, ...]
    folders: tuple[Path, ...]


def sandbox_of(config: Config, program: Program, target: Target) -> Sandbox:
    """Decide what a service with this configuration may reach."""
    written = [inbox.path for inbox in config.inboxes]
    written += [inbox.output_root for inbox in config.inboxes if inbox.output_root is not None]
    written.append(config.daemon.state_dir)
    read = [*program.folders]
    if config.file is not None:
        read.append(_kept_with(config.file, target.owner.home, config))
    read += [engine.api_key_file for engine in config.engines.values() if engine.api_key_file is not None]
    whisper = [engine for engine in config.engines.values() if engine.type == "whisper"]
    for engine in whisper:
        model = Path(os.path.expanduser(engine.model))
        if model.is_absolute():
            read.append(model)
        else:  # Hugging Face's hub keeps models here, for the command line as well
            written.append(target.owner.home / ".cache" / "huggingface")
    outer = _outermost(written)
    return Sandbox(
        written=outer,
        read=tuple(path for path in _outermost(read) if not _inside(path, outer)),
        whisper=bool(whisper),
        local_only=config.privacy.local_only,
    )


def is_hidden(path: Path, home: Path) -> bool:
    """Whether the sandbox hides what lies there, so that it has to be bound."""
    return _inside(path, (*_HIDDEN, home))


def outside_of(paths: Iterable[Path], sandbox: Sandbox) -> list[Path]:
    """Those that a service in this sandbox could not write to."""
    return [path for path in paths if not _inside(path, sandbox.written)]


def advise(problems: Iterable[Problem], environ: Mapping[str, str]) -> str:
    """What to do about folders that only this service cannot see; empty: nothing that it knows of."""
    folders = any(problem.key.endswith((".path", ".output_dir", ".state_dir")) for problem in problems)
    if "INVOCATION_ID" not in environ or not folders:
        return ""
    return "the service sees the folders of its last installation alone; run: tnfd service install"


def program_here() -> Program:
    """This very program: the command that people type where it is ours, else the interpreter."""
    import tnfd

    folders = [Path(sys.prefix), Path(sys.base_prefix), Path(tnfd.__file__).parent.parent]
    ours = Path(sys.prefix) / "bin" / "tnfd"
    command: tuple[str, ...] = (sys.executable, "-P", "-m", "tnfd")
    if ours.is_file():
        command = (str(ours),)
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            typed = Path(folder) / "tnfd"
            if folder.startswith("/") and typed.exists() and os.path.samefile(typed, ours):
                command = (str(typed),)  # pipx and uv: a link that stays when they upgrade
                folders.append(typed)
                break
    real = [Path(os.path.realpath(path)) for path in folders]
    return Program(command, tuple(dict.fromkeys([*folders, *real])))


def _kept_with(file: Path, home: Path, config: Config) -> Path:
    """The file's folder, so that a file which an editor puts in its place is seen; if that shows no more."""
    folder = file.parent
    shows = home.is_relative_to(folder) or any(inbox.path.is_relative_to(folder) for inbox in config.inboxes)
    return file if shows else folder


def _inside(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    found: list[Path] = []
    for path in sorted(set(paths)):  # what is inside comes right after what it is inside of
        if not _inside(path, found):
            found.append(path)
    return tuple(found)
