"""Whether a file is a placeholder of one whose content lies elsewhere: opening it would download it.

Decides by what a stat and, on Windows shares, the file's attributes say. Dropbox, OneDrive, iCloud Drive and
Nextcloud leave such files for what is "online-only"; archives that move old files to tape do the same.
Placeholders with names of their own (``.NAME.icloud``, ``NAME.nextcloud``) are left alone by their names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

# How file systems spell a Windows file's attributes: cifs and smb3 (4 bytes little-endian, or Samba's text),
# ntfs3 and ntfs-3g.
WINDOWS_ATTRIBUTES: Mapping[str, str] = {
    "cifs": "user.cifs.dosattrib",
    "smb3": "user.cifs.dosattrib",
    "ntfs3": "system.dos_attrib",
    "fuseblk": "system.ntfs_attrib",
}

_DATALESS = 0x40000000  # SF_DATALESS: macOS sys/stat.h
# FILE_ATTRIBUTE_OFFLINE, RECALL_ON_OPEN, RECALL_ON_DATA_ACCESS (MS-FSCC 2.6)
_ELSEWHERE = 0x1000 | 0x40000 | 0x400000
_SMALL_BYTES = 64 * 1024  # btrfs, ext4 and ZFS keep small files in their metadata: no blocks, but all there
# Shares that count a file's blocks as they are; FUSE and 9p often say 0 of every file.
_COUNTS_BLOCKS = frozenset({"cifs", "smb3", "ntfs3", "nfs", "nfs4", "lustre", "gpfs"})


def is_online_only(st: os.stat_result, fs_type: str, attributes: Callable[[], bytes | None]) -> bool:
    """Say whether the content of a regular file is not on this machine.

    ``attributes`` gives the extended attribute that ``WINDOWS_ATTRIBUTES`` names for this file system, or
    None; it is asked only where there is such a name.
    """
    if getattr(st, "st_flags", 0) & _DATALESS:
        return True
    if fs_type in _COUNTS_BLOCKS and is_unwritten(st):
        return True
    if fs_type not in WINDOWS_ATTRIBUTES:
        return False
    value = attributes()
    return value is not None and bool(_number(value) & _ELSEWHERE)


def is_unwritten(st: os.stat_result) -> bool:
    """Whether a file has a length and nothing in it: space was set aside, and nobody has written so far."""
    return st.st_size >= _SMALL_BYTES and getattr(st, "st_blocks", 1) == 0


def _number(value: bytes) -> int:
    """Read an attribute: 4 or 8 bytes little-endian, or text ("0x1020")."""
    if value[:2] == b"0x":
        try:
            return int(value.rstrip(b"\0"), 16)
        except ValueError:
            return 0
    return int.from_bytes(value[:4], "little")
