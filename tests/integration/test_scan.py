from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tnfd.intake.look import RootLost
from tnfd.intake.scan import Walk
from tnfd.model import StatKey
from tnfd.root import Root
from tnfd.rules.ignore import NameRules


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    with Root(os.fsencode(tmp_path)) as opened:
        yield opened


def write(tmp_path: Path, *names: str) -> None:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "surrogateescape"))


def rels(walk: Walk) -> set[bytes]:
    return {entry.rel for entry in walk.next_slice(10_000)}


def test_slices_together_give_each_file_once_with_its_stat(tmp_path: Path, root: Root) -> None:
    write(tmp_path, *(f"{n % 7}/{n}.mp3" for n in range(100)), "top.wav", "caf\udce9.mp3")
    walk = Walk(root, NameRules())
    entries = []
    while len(part := walk.next_slice(9)) == 9:
        entries += part
    entries += part
    assert len(entries) == 102
    assert walk.next_slice() == []
    for entry in entries:
        assert entry.stat == StatKey.of(os.stat(os.path.join(os.fsencode(tmp_path), entry.rel)))


def test_links_and_left_out_folders_are_not_followed(tmp_path: Path, root: Root) -> None:
    write(
        tmp_path,
        "a.mp3",
        "out/.tnfdignore",
        "out/b.mp3",
        "out/deep/c.mp3",
        ".git/d.mp3",
        "done/e.mp3",
        "x/f.mp3",
    )
    (tmp_path / "link.mp3").symlink_to("a.mp3")
    (tmp_path / "folder").symlink_to("x")
    (tmp_path / "loop").symlink_to(".")
    walk = Walk(root, NameRules(skip_dirs=(b"done",)), explain=True)
    assert rels(walk) == {b"a.mp3", b"x/f.mp3"}
    assert dict(walk.ignored) == {
        b"out": "left_out",
        b".git": "hidden",
        b"done": "own_folder",
        b"link.mp3": "link",
        b"folder": "not_media",
        b"loop": "not_media",
    }


def test_a_walk_can_start_below_and_stay_flat(tmp_path: Path, root: Root) -> None:
    write(tmp_path, "a.mp3", "x/b.mp3", "x/y/c.mp3")
    assert rels(Walk(root, NameRules(), b"x")) == {b"x/b.mp3", b"x/y/c.mp3"}
    assert rels(Walk(root, NameRules(), recursive=False)) == {b"a.mp3"}
    assert rels(Walk(root, NameRules(), b"missing")) == set()


def test_a_pipe_is_reported_by_its_inode_alone(tmp_path: Path, root: Root) -> None:
    os.mkfifo(tmp_path / "pipe.mp3")
    st = os.stat(tmp_path / "pipe.mp3")
    (entry,) = Walk(root, NameRules()).next_slice()
    assert entry.stat == StatKey(st.st_dev, st.st_ino, 0, 0, 0)


def test_folders_that_vanish_during_the_walk_do_no_harm(tmp_path: Path, root: Root) -> None:
    write(tmp_path, *(f"d{n}/a.mp3" for n in range(20)))
    walk = Walk(root, NameRules())
    first = walk.next_slice(1)
    for n in range(20):
        (tmp_path / f"d{n}" / "a.mp3").unlink()
        (tmp_path / f"d{n}").rmdir()
    assert len(first) == 1
    assert walk.next_slice(100) == []
    assert walk.unreadable == {}


def test_close_in_the_middle_lets_go_of_the_folders(tmp_path: Path, root: Root) -> None:
    write(tmp_path, *(f"x/{n}.mp3" for n in range(20)))
    before = len(os.listdir("/proc/self/fd"))
    walk = Walk(root, NameRules())
    walk.next_slice(3)
    assert len(os.listdir("/proc/self/fd")) > before
    walk.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert walk.next_slice() == []


def test_a_root_that_cannot_be_opened_is_lost(tmp_path: Path) -> None:
    root = Root(os.fsencode(tmp_path))
    root.close()
    with pytest.raises(RootLost):
        Walk(root, NameRules()).next_slice()
