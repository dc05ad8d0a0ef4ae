"""From the paths of a command line to folders and files below roots. Looks at disks; opens no recording."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field

from tnfd.batch.wishes import WrongUsage
from tnfd.config import Config, InboxConfig
from tnfd.rules.ignore import NameRules, decide_folder
from tnfd.rules.names import for_terminal


@dataclass(slots=True)
class Target:
    """What was named below one root: folders to walk (b"" is the root) and single files.

    ``inbox``: the configured inbox whose folder the root is, if it is one.
    """

    root: bytes
    inbox: InboxConfig | None = None
    folders: list[bytes] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list)


def find_targets(paths: Sequence[str], config: Config) -> list[Target]:
    """Sort what was named.

    A path in a configured inbox belongs to that inbox, so that the daemon and the batch mean the same file.

    Raises:
        WrongUsage: some of it is not there; all of that is named.
    """
    targets: dict[bytes, Target] = {}
    missing: list[str] = []
    for written in dict.fromkeys(paths):
        path = os.path.abspath(os.fsencode(os.path.expanduser(written)))
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except OSError as error:
            missing.append(f"{for_terminal(os.fsencode(written))}: {error.strerror}")
            continue
        folder = path if is_folder else os.path.dirname(path)
        target, below = _target(folder, config, targets)
        if is_folder:
            target.folders.append(below)
        else:
            target.files.append(
                os.path.join(below, os.path.basename(path)) if below else os.path.basename(path)
            )
    if missing:
        raise WrongUsage("\n".join(missing))
    return list(targets.values())


def _target(folder: bytes, config: Config, targets: dict[bytes, Target]) -> tuple[Target, bytes]:
    """The target that a folder belongs to, and the folder's path below its root."""
    for inbox in config.inboxes:
        root = os.fsencode(inbox.path)
        for named in dict.fromkeys((folder, os.path.realpath(folder))):
            for base in dict.fromkeys((root, os.path.realpath(root))):
                below = _below(named, base)
                if below is not None and (not below or decide_folder(below, NameRules()) is None):
                    return targets.setdefault(root, Target(root, inbox)), below
    return targets.setdefault(folder, Target(folder)), b""


def _below(path: bytes, root: bytes) -> bytes | None:
    if path == root:
        return b""
    base = root.rstrip(b"/") + b"/"
    return path[len(base) :] if path.startswith(base) else None


def anchored(glob: str, folder: bytes) -> str:
    """A glob that was meant relative to ``folder``, as it has to be written relative to the root."""
    if not folder or "/" not in glob.rstrip("/"):
        return glob  # without a slash it matches at any depth
    literal = "".join(f"[{char}]" if char in "*?[" else char for char in os.fsdecode(folder))
    return f"/{literal}/{glob.lstrip('/')}"
