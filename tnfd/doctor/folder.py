"""Folders: inboxes, the places where outputs go, the state folder. Writes and removes one hidden file."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tnfd.config import InboxConfig
from tnfd.doctor import privacy
from tnfd.doctor.finding import Finding, Hangs, Mark, within
from tnfd.intake.mounts import Mount, decide_mode, read_mount

_PATIENCE_S = 5.0
_FULL_BYTES, _TIGHT_BYTES = 50 << 20, 1 << 30


def check_inbox(inbox: InboxConfig, live: dict[str, Any] | None) -> Iterator[Finding]:
    """One inbox; ``live`` is what a running daemon says of it."""
    area = f"inbox {inbox.name}"
    try:
        yield from within(_PATIENCE_S, lambda: list(_inbox(area, inbox, live)))
    except Hangs:
        why = "its share hangs; tnfd waits until it comes back, other inboxes go on"
        yield Finding(area, Mark.FAIL, f"{inbox.path} does not answer", why, f"df {inbox.path}")


def _inbox(area: str, inbox: InboxConfig, live: dict[str, Any] | None) -> Iterator[Finding]:
    path = inbox.path
    try:
        with os.scandir(path) as entries:
            next(iter(entries), None)
    except OSError as error:
        yield _blocked(area, path, error) or _unreadable(area, path, error)
        return
    yield Finding(area, Mark.OK, f"{path} is there and can be read")
    if sys.platform == "darwin" and (finding := privacy.warned(area, path, Path.home(), _program())):
        yield finding
    yield _watched(area, inbox, read_mount(os.fsencode(path)), live)
    target = inbox.output_root or path
    yield _writable(area, _existing(target), target)
    yield from _space(area, _existing(target))


def _blocked(area: str, path: Path, error: OSError) -> Finding | None:
    return privacy.blocked(area, path, error, _program()) if sys.platform == "darwin" else None


def _program() -> str:
    return os.path.realpath(sys.executable)


def _unreadable(area: str, path: Path, error: OSError) -> Finding:
    if isinstance(error, FileNotFoundError):
        why = "tnfd run refuses to start with an inbox that is missing"
        return Finding(
            area, Mark.FAIL, f"{path} is not there", why, f"mkdir -p {path}   # or mount its share"
        )
    if isinstance(error, NotADirectoryError):
        return Finding(area, Mark.FAIL, f"{path} is not a folder", "it cannot be watched", "tnfd config show")
    why = "no file in it can be seen"
    return Finding(area, Mark.FAIL, f"{path} cannot be read: {error.strerror}", why, f"chmod u+rx {path}")


def _watched(area: str, inbox: InboxConfig, mount: Mount, live: dict[str, Any] | None) -> Finding:
    mode, why = decide_mode(inbox.watch, mount)
    kind = f"{mount.fs_type or 'unknown file system'} ({mount.kind})"
    if live is not None and live["mode"] != mode:
        what = f"watched by {live['mode']} instead of {mode}: {live['why']}"
        mend = "sudo sysctl fs.inotify.max_user_watches=1048576"
        return Finding(area, Mark.WARN, what, "new files are found by looking now and then", mend)
    if mode == "events" and mount.kind == "network":
        what = f"watched by events on {kind}"
        why = 'files that other machines put there may be found late; watch = "auto" scans instead'
        return Finding(area, Mark.WARN, what, why, "tnfd config show")
    return Finding(area, Mark.OK, f"watched by {mode} on {kind}" + ("" if why in kind else f": {why}"))


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there: what is missing is made when first needed."""
    return next((one for one in (folder, *folder.parents) if one.exists()), folder)


def _writable(area: str, folder: Path, meant: Path) -> Finding:
    """Write, sync and remove a file; permission bits alone do not tell (ACLs, read-only mounts, quotas)."""
    what = f"outputs can be written to {meant}" if folder == meant else f"{meant} can be made"
    probe = folder / f".tnfd-doctor-{secrets.token_hex(4)}"
    try:
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"tnfd doctor was here\n")
            os.fsync(fd)
        finally:
            os.close(fd)
            probe.unlink()
    except OSError as error:
        why = "transcripts and status files have no place"
        return Finding(
            area, Mark.FAIL, f"{folder} cannot be written to: {error.strerror}", why, f"chmod u+w {folder}"
        )
    return Finding(area, Mark.OK, what)


def _space(area: str, folder: Path) -> Iterator[Finding]:
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if not found.f_blocks or free >= _TIGHT_BYTES:  # some file systems do not count blocks
        return
    mark = Mark.FAIL if free < _FULL_BYTES else Mark.WARN
    why = "on a full disk jobs wait until there is space again"
    yield Finding(area, mark, f"{free / 1e6:.0f} MB are free at {folder}", why, f"df -h {folder}")


def check_state(state_dir: Path, trouble: str) -> Iterator[Finding]:
    """The state folder; ``trouble``: why its database cannot be read."""
    area = "state folder"
    try:
        yield from within(_PATIENCE_S, lambda: list(_state(area, state_dir)))
    except Hangs:
        why = "nothing works without it"
        yield Finding(area, Mark.FAIL, f"{state_dir} does not answer", why, f"df {state_dir}")
    if trouble:
        why = "nothing works without it, and nothing is ever overwritten"
        yield Finding(area, Mark.FAIL, trouble, why, f"ls -l {state_dir}")


def _state(area: str, state_dir: Path) -> Iterator[Finding]:
    place = _existing(state_dir)
    mount = read_mount(os.fsencode(place))
    if mount.kind == "network":
        why = "locks and the database need a local disk; on shares they break"
        mend = "set state_dir to a folder on a local disk, then: tnfd config check"
        yield Finding(area, Mark.FAIL, f"{state_dir} lies on {mount.fs_type}", why, mend)
    if place != state_dir:
        yield _writable(area, place, state_dir)
        return
    found = state_dir.stat()
    if found.st_uid != os.geteuid():
        why = "the daemon and these commands must run as the same user"
        mend = f"sudo chown -R $USER {state_dir}"
        yield Finding(area, Mark.FAIL, f"{state_dir} belongs to another user", why, mend)
    elif stat.S_IMODE(found.st_mode) & 0o077:
        what = f"other users may look into {state_dir} (mode {stat.S_IMODE(found.st_mode):04o})"
        why = "it holds transcripts"
        yield Finding(area, Mark.WARN, what, why, f"chmod 700 {state_dir}")
    else:
        yield Finding(
            area, Mark.OK, f"{state_dir}, on {mount.fs_type or 'a local disk'}, for this user alone"
        )
    written = _writable(area, state_dir, state_dir)
    if written.mark is not Mark.OK:
        yield written
    yield from _space(area, state_dir)
