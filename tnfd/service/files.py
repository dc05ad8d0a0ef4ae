"""The files of a service: which, with what in them; writing those that differ, removing those that are ours.

A file without our mark is somebody else's: it is moved aside before one of ours takes its place, and never
removed.
"""

from __future__ import annotations

import contextlib
import html
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tnfd.config import Config
from tnfd.service.launchd import property_list
from tnfd.service.sandbox import Program
from tnfd.service.systemd import credential_drop_in, sandbox_drop_in, system_unit, user_unit
from tnfd.service.target import MARK, Target


@dataclass(frozen=True, slots=True)
class File:
    """One file as it should be."""

    path: Path
    text: str
    mode: int = 0o644


def files_of(target: Target, config: Config, program: Program, *, key: bool) -> list[File]:
    """All that belongs to a service with this configuration. ``key``: one is kept in ``target.key_file``."""
    if target.mac:
        named = config.file if config.file != target.config_home / "tnfd" / "config.toml" else None
        return [File(target.unit_file, property_list(target, program.command, named, key=key))]
    unit = system_unit(program.command) if target.system else user_unit(program.command)
    files = [
        File(target.unit_file, unit),
        File(target.sandbox_file, sandbox_drop_in(target, config, program)),
    ]
    if key and not target.system:  # the system's unit names the credential itself
        files.append(File(target.credential_file, credential_drop_in(target)))
    return files


def write_all(files: Iterable[File]) -> tuple[list[Path], list[Path]]:
    """Write those that are not there as they should be; return what was written, and what was moved aside.

    Raises:
        OSError: one cannot be written.
    """
    written, aside = [], []
    for file in files:
        found = _text(file.path)
        if found == file.text:
            continue
        if found is not None and MARK not in found:
            kept = _free(file.path)
            os.rename(file.path, kept)
            aside.append(kept)
        _write(file)
        written.append(file.path)
    return written, aside


def config_named(target: Target) -> Path | None:
    """The configuration file that the service was set up with, where that is not one that a search finds."""
    text = _text(target.unit_file if target.mac else target.sandbox_file) or ""
    if target.mac:
        found = re.search(r"<key>TNFD_CONFIG</key>\s*<string>([^<]*)</string>", text)
        return Path(html.unescape(found[1])) if found else None
    found = re.search(r"^# configuration: (.+)$", text, re.MULTILINE)
    return Path(found[1]) if found else None


def differs(file: File) -> bool:
    """Whether it is not there as it should be."""
    return _text(file.path) != file.text


def installed(target: Target) -> list[Path]:
    """Our files that are there."""
    candidates = (target.unit_file, *(() if target.mac else (target.sandbox_file, target.credential_file)))
    return [path for path in candidates if MARK in (_text(path) or "")]


def remove_all(target: Target) -> list[Path]:
    """Remove our files; the system's template stays while another user's service needs it.

    Raises:
        OSError: one cannot be removed.
    """
    removed = []
    for path in installed(target):
        if path == target.unit_file and target.system and not target.mac and other_instances(target):
            continue
        path.unlink()
        removed.append(path)
    if not target.mac:
        with contextlib.suppress(OSError):  # somebody's own settings lie there
            target.drop_ins.rmdir()
    return removed


def other_instances(target: Target) -> list[str]:
    """Users for whom the system's service is set up beside this one."""
    return [name for name in instances(target.unit_file.parent) if name != target.owner.name]


def instances(units: Path = Path("/etc/systemd/system")) -> list[str]:
    """Users for whom the system's service is set up."""
    found = sorted(units.glob("tnfd@*.service.d"))
    return [
        path.name.removeprefix("tnfd@").removesuffix(".service.d")
        for path in found
        if MARK in (_text(path / "sandbox.conf") or "")
    ]


def purge(target: Target, state_dir: Path) -> list[Path]:
    """Remove the state folder (transcripts kept for later, what was spent) and the key that was asked for.

    Raises:
        OSError: it cannot be removed.
    """
    removed = []
    if (state_dir / "tnfd.sqlite3").exists() or (state_dir / "daemon.lock").exists():
        shutil.rmtree(state_dir)
        removed.append(state_dir)
    if target.key_file.exists() and not (target.system and not target.mac and other_instances(target)):
        target.key_file.unlink()
        removed.append(target.key_file)
    return removed


def make_folder(path: Path, target: Target, mode: int) -> bool:
    """Make a folder that the service could not make from inside its sandbox; the owner's, as its parents are.

    Raises:
        OSError: it cannot be made.
    """
    missing = [one for one in (path, *path.parents) if not one.exists()][::-1]
    for one in missing:
        one.mkdir(mode, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(one, target.owner.uid, target.owner.gid)
    return bool(missing)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None


def _free(path: Path) -> Path:
    number = 0
    while (kept := path.with_name(f"{path.name}.bak{number or ''}")).exists():
        number += 1
    return kept


def _write(file: File) -> None:
    file.path.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.path.with_name(f".{file.path.name}.{secrets.token_hex(4)}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file.mode)
        with open(fd, "w", encoding="utf-8", errors="surrogateescape") as handle:
            os.fchmod(fd, file.mode)
            handle.write(file.text)
            handle.flush()
            os.fsync(fd)
        os.replace(temporary, file.path)
    finally:
        temporary.unlink(missing_ok=True)
