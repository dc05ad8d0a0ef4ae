from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, cast

import pytest

from tnfd.rules.placeholder import is_online_only, is_unwritten


@dataclass
class Stat:
    st_size: int = 1_000_000
    st_blocks: int = 2000
    st_flags: int = 0


def st(**fields: Any) -> os.stat_result:
    return cast(os.stat_result, Stat(**fields))


@pytest.mark.parametrize(
    ("stat", "fs_type", "attributes", "elsewhere"),
    [
        (st(), "ext4", None, False),
        (st(st_flags=0x40000000), "apfs", None, True),  # macOS: SF_DATALESS
        (st(st_flags=0x20), "apfs", None, False),
        (st(st_blocks=0), "cifs", None, True),
        (st(st_blocks=0), "nfs4", None, True),
        (st(st_blocks=0), "fuse.sshfs", None, False),  # FUSE often counts no blocks at all
        (st(st_blocks=0), "ext4", None, False),  # set aside, not elsewhere
        (st(st_blocks=0, st_size=100), "nfs4", None, False),
        (st(), "cifs", (0x400000 | 0x20).to_bytes(4, "little"), True),  # OneDrive on a Windows server
        (st(), "cifs", (0x1000).to_bytes(4, "little"), True),
        (st(), "cifs", (0x20).to_bytes(4, "little"), False),
        (st(), "cifs", b"0x1020\0", True),
        (st(), "cifs", b"0xzz", False),
        (st(), "ntfs3", (0x40000).to_bytes(4, "little"), True),
        (st(), "ext4", (0x400000).to_bytes(4, "little"), False),
    ],
)
def test_online_only(stat: os.stat_result, fs_type: str, attributes: bytes | None, elsewhere: bool) -> None:
    assert is_online_only(stat, fs_type, lambda: attributes) is elsewhere


def test_unwritten() -> None:
    assert is_unwritten(st(st_blocks=0))
    assert not is_unwritten(st(st_blocks=8))
    assert not is_unwritten(st(st_blocks=0, st_size=1000))
