"""Which file system a folder lies on, and whether its leases, times and events can be trusted.

Reads /proc/self/mountinfo and nothing else; it never mounts, and never touches the file system in question
but for resolving links.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# Where F_SETLEASE was seen to work or is implemented by the kernel's own inode layer (proc(5), fcntl(2)).
# Everything else (nfs, cifs, smb3, fuse.*, 9p, virtiofs, vboxsf, exfat, ntfs3, vfat, ...) is treated as a
# share.
TRUSTED = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "tmpfs", "overlay", "bcachefs"})

Kind = Literal["local", "network"]

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo: where it is mounted, and the type of its file system."""

    point: bytes
    fs_type: str

    @property
    def kind(self) -> Kind:
        """Whether it behaves like a local disk. Unknown ("", not Linux) is local without leases."""
        return "local" if not self.fs_type or self.fs_type in TRUSTED else "network"


UNKNOWN = Mount(b"/", "")


def parse_mountinfo(text: bytes) -> tuple[Mount, ...]:
    r"""Parse the file; fields are separated by blanks and escaped as ``\ooo`` (proc(5))."""
    mounts = []
    for line in text.splitlines():
        left, dash, right = line.partition(b" - ")
        fields = left.split(b" ")
        if dash and len(fields) >= 5:
            point = _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), fields[4])
            mounts.append(Mount(point, right.split(b" ")[0].decode("ascii", "backslashreplace")))
    return tuple(mounts)


def find_mount(real: bytes, mounts: Sequence[Mount]) -> Mount:
    """Return the mount that a real path (no links) lies on: the longest prefix, of equal ones the last."""
    best: Mount | None = None
    for mount in mounts:
        inside = real == mount.point or real.startswith(mount.point.rstrip(b"/") + b"/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best or UNKNOWN


def read_mount(path: bytes) -> Mount:
    """Return the mount that ``path`` lies on; UNKNOWN where there is no mountinfo. May block on a share."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            text = file.read()
    except OSError:
        return UNKNOWN
    return find_mount(os.path.realpath(path), parse_mountinfo(text))


def decide_mode(asked: str, mount: Mount) -> tuple[Literal["events", "scan"], str]:
    """Say how an inbox on this mount is watched, and why; ``asked`` is the inbox's ``watch``."""
    if asked == "scan":
        return "scan", "configured"
    if asked == "events":
        return "events", "configured"
    if mount.kind == "network":
        return "scan", f"{mount.fs_type} does not report what other machines change"
    return "events", mount.fs_type or "local disk"
