"""How many folders the kernel watches for one user, against how many there are to watch. Counts folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tnfd.config import InboxConfig
from tnfd.doctor.finding import Finding, Hangs, Mark, within
from tnfd.intake.mounts import decide_mode, read_mount

_AREA = "file events"
_LIMITS = Path("/proc/sys/fs/inotify")
_PATIENCE_S = 5.0
_MOST = 2_000_000  # nobody has more; it only bounds the count
_TIGHT = 0.8
_ROUND = 65_536


def check_limits(inboxes: Iterable[InboxConfig], limits: Path = _LIMITS) -> Iterator[Finding]:
    """Compare need and limit; nothing where the system has no such limits."""
    most, instances = _number(limits / "max_user_watches"), _number(limits / "max_user_instances")
    if most is None or instances is None:
        return
    watched = [inbox for inbox in inboxes if _by_events(inbox)]
    if not watched:
        yield Finding(_AREA, Mark.OK, "none are needed: every inbox is scanned")
        return
    need, whole = 0, True
    for inbox in watched:
        try:
            need += within(_PATIENCE_S, lambda inbox=inbox: _folders(inbox))  # type: ignore[misc]
        except (Hangs, OSError):
            whole = False  # the inbox's own check says so
    shown = f"{need} folder{'' if need == 1 else 's'}{'' if whole else ' or more'} to watch, {most} allowed"
    why = "beyond the limit an inbox is scanned now and then instead, and files are found later"
    if need > most * _TIGHT:
        wanted = -(-need * 2 // _ROUND) * _ROUND
        mend = (
            f"echo fs.inotify.max_user_watches={wanted} | sudo tee /etc/sysctl.d/90-tnfd.conf"
            " && sudo sysctl --system"
        )
        mark = Mark.FAIL if need > most else Mark.WARN
        yield Finding(_AREA, mark, shown, why, mend)
    elif len(watched) > instances * _TIGHT:
        what = (
            f"{len(watched)} inboxes to watch, {instances} watchers allowed for all of this user's programs"
        )
        mend = (
            f"echo fs.inotify.max_user_instances={max(1024, 4 * len(watched))} | sudo tee"
            " /etc/sysctl.d/90-tnfd.conf && sudo sysctl --system"
        )
        yield Finding(_AREA, Mark.WARN, what, why, mend)
    else:
        yield Finding(_AREA, Mark.OK, shown)


def _by_events(inbox: InboxConfig) -> bool:
    try:
        mount = within(_PATIENCE_S, lambda: read_mount(os.fsencode(inbox.path)))
    except (Hangs, OSError):
        return False
    return decide_mode(inbox.watch, mount)[0] == "events"


def _folders(inbox: InboxConfig) -> int:
    if not inbox.recursive:
        return 1
    count, waiting = 0, [os.fsencode(inbox.path)]
    while waiting and count < _MOST:
        folder = waiting.pop()
        count += 1
        try:
            with os.scandir(folder) as entries:
                waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # it cannot be watched either
    return count


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
