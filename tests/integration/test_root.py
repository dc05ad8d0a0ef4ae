"""Folders held open, on a real disk: nothing below is reached through a link, nothing but files is opened."""
# ruff: noqa: S607 (mount and umount lie where the system has them)

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tnfd.errors import Fault, SourceVanished
from tnfd.model import StatKey
from tnfd.root import Root, fault_of_open


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    inbox = tmp_path / "inbox"
    (inbox / "sub" / "deep").mkdir(parents=True)
    (inbox / "sub" / "deep" / "talk.mp3").write_bytes(b"sound")
    return inbox


@pytest.fixture
def root(inbox: Path) -> Iterator[Root]:
    before = len(os.listdir("/dev/fd"))
    with Root(os.fsencode(inbox)) as root:
        yield root
    assert len(os.listdir("/dev/fd")) == before  # nothing stays open, whatever went wrong


def refused(root: Root, rel: bytes) -> Fault:
    with pytest.raises(Fault) as caught:
        root.open_source(rel)
    return caught.value


TALK = b"sub/deep/talk.mp3"


def test_file_is_opened_and_looked_at(root: Root) -> None:
    fd, st = root.open_source(TALK)
    try:
        assert os.read(fd, 10) == b"sound"
        assert st == os.fstat(fd)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
    assert root.stat_key(TALK) == StatKey.of(st)
    assert root.look(TALK) == st


def test_name_of_any_bytes(root: Root, inbox: Path) -> None:
    name = b"\xff\n\x1b[31m.mp3"
    Path(os.fsdecode(os.path.join(os.fsencode(inbox), name))).write_bytes(b"x")
    fd, _ = root.open_source(name)
    os.close(fd)


def test_root_itself_may_be_a_link(inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(inbox)
    with Root(os.fsencode(tmp_path / "link")) as root:
        assert root.look(TALK) is not None
        assert root.still_there()


def test_link_in_the_middle_leads_nowhere(root: Root, inbox: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.mp3").write_bytes(b"secret")
    (inbox / "link").symlink_to(outside)
    (inbox / "sub" / "link").symlink_to("deep")  # nor one that stays inside
    for rel in (b"link/secret.mp3", b"sub/link/talk.mp3"):
        assert isinstance(refused(root, rel), SourceVanished)
        assert root.look(rel) is None
        assert root.stat_key(rel) is None
        with pytest.raises(OSError, match=r"Not a directory|symbolic links"):  # noqa: SIM117
            with root.directory(rel.rpartition(b"/")[0]):
                pass


def test_link_to_a_file_is_no_recording(root: Root, inbox: Path) -> None:
    (inbox / "link.mp3").symlink_to("sub/deep/talk.mp3")
    (inbox / "dangling.mp3").symlink_to("nowhere")
    for rel in (b"link.mp3", b"dangling.mp3"):
        assert refused(root, rel).code == "source.not_regular"
        assert root.stat_key(rel) is None


def test_pipe_is_refused_without_waiting(root: Root, inbox: Path) -> None:
    os.mkfifo(inbox / "pipe.mp3")
    ended = threading.Event()
    faults: list[Fault] = []

    def look() -> None:
        faults.append(refused(root, b"pipe.mp3"))
        ended.set()

    threading.Thread(target=look, daemon=True).start()
    assert ended.wait(10)
    assert faults[0].code == "source.not_regular"
    assert root.stat_key(b"pipe.mp3") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_device_is_refused(root: Root, inbox: Path) -> None:
    os.mknod(inbox / "tape.mp3", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(inbox / "disk.mp3", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    for rel in (b"tape.mp3", b"disk.mp3"):
        assert refused(root, rel).code == "source.not_regular"


def test_socket_is_refused(root: Root, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(inbox)  # addresses are short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("call.mp3")
        assert refused(root, b"call.mp3").code == "source.not_regular"


def test_folder_named_like_a_recording_is_refused(root: Root, inbox: Path) -> None:
    (inbox / "album.mp3").mkdir()
    assert refused(root, b"album.mp3").code == "source.not_regular"
    assert root.stat_key(b"album.mp3") is None
    assert refused(root, b"").code == "source.vanished"


@pytest.mark.parametrize(
    "rel", [b"..", b"../inbox/sub", b"sub/..", b"sub/../../x", b"sub/deep/../deep/talk.mp3"]
)
def test_nothing_leads_upwards(root: Root, rel: bytes) -> None:
    assert refused(root, rel).code == "source.io"
    with pytest.raises(OSError, match=r"\.\."):
        root.look(rel)
    with pytest.raises(OSError, match=r"\.\."), root.directory(rel):
        pass


def test_dots_and_double_slashes_are_nothing(root: Root) -> None:
    assert root.look(b"./sub//deep/./talk.mp3") == root.look(TALK)


@pytest.mark.parametrize("rel", [b"gone.mp3", b"gone/talk.mp3", TALK + b"/x", b"sub/deep/talk.mp3/x/y"])
def test_what_is_not_there_has_vanished(root: Root, rel: bytes) -> None:
    assert isinstance(refused(root, rel), SourceVanished)
    assert root.look(rel) is None


def test_name_that_no_file_can_have(root: Root) -> None:
    assert refused(root, b"x" * 300).code == "source.io"


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "sub/deep/talk.mp3")


@pytest.mark.parametrize("make", [_link, os.mkfifo, Path.mkdir], ids=["link", "pipe", "folder"])
def test_file_replaced_between_look_and_opening_is_refused(
    root: Root, inbox: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    path = inbox / "swap.mp3"
    path.write_bytes(b"x")
    look = os.stat

    def look_and_swap(*args: Any, **kwargs: Any) -> os.stat_result:
        st = look(*args, **kwargs)
        path.unlink()
        make(path)
        return st

    monkeypatch.setattr(os, "stat", look_and_swap)
    try:
        fault = refused(root, b"swap.mp3")
    finally:
        monkeypatch.undo()
    assert fault.code == "source.not_regular"


def test_what_is_no_file_is_not_even_opened(root: Root, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Opening a tape rewinds it, opening a pipe wakes whoever waits to write into it.
    os.mkfifo(inbox / "pipe.mp3")
    opened: list[object] = []
    open_ = os.open

    def note(path: Any, *args: Any, **kwargs: Any) -> int:
        opened.append(path)
        return open_(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", note)
    refused(root, b"pipe.mp3")
    assert opened == []


def test_folders_are_made_where_asked(root: Root, inbox: Path) -> None:
    with root.directory(b"out/a/b", create=True) as fd:
        assert os.path.samestat(os.fstat(fd), (inbox / "out/a/b").stat())
    with root.directory(b"out/a/b", create=True):
        pass
    with root.directory(b"") as fd:
        assert os.path.samestat(os.fstat(fd), inbox.stat())
    with pytest.raises(FileNotFoundError), root.directory(b"other"):
        pass
    (inbox / "link").symlink_to("out")
    with pytest.raises(OSError), root.directory(b"link/a", create=True):  # noqa: PT011
        pass


def test_root_that_is_replaced_is_not_there_any_more(root: Root, inbox: Path) -> None:
    assert root.still_there()
    identity = root.identity()
    inbox.rename(inbox.with_name("moved"))
    assert not root.still_there()
    inbox.mkdir()
    assert not root.still_there()
    assert root.identity() == identity
    assert root.look(TALK) is not None  # what is held open is still the old one


def test_root_must_be_a_folder(inbox: Path) -> None:
    for path in (inbox / "none", inbox / "sub/deep/talk.mp3"):
        with pytest.raises(OSError):  # noqa: PT011
            Root(os.fsencode(path))


def test_closing_twice_is_harmless(inbox: Path) -> None:
    root = Root(os.fsencode(inbox))
    root.close()
    root.close()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, "source.vanished"),
        (errno.ESTALE, "source.vanished"),
        (errno.EACCES, "source.unreadable"),
        (errno.EPERM, "source.unreadable"),
        (errno.ELOOP, "source.not_regular"),
        (errno.ENXIO, "source.not_regular"),
        (errno.EIO, "source.io"),
        (errno.ETIMEDOUT, "source.io"),
    ],
)
def test_what_the_system_says_is_translated(number: int, code: str) -> None:
    assert fault_of_open(OSError(number, os.strerror(number))).code == code


# -- removed, or not mounted ---------------------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "in" / "sub"
    folder.mkdir(parents=True)
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "x", folder], check=False).returncode:
        pytest.skip("mounting is not permitted")
    yield folder
    subprocess.run(["umount", "-l", folder], check=False, stderr=subprocess.DEVNULL)


def settled(path: Path) -> StatKey:
    """Make a file that was there once."""
    path.write_bytes(b"x")
    was = StatKey.of(path.stat())
    path.unlink()
    return was


def renumbered(was: StatKey) -> StatKey:
    """As if the machine had been started anew since."""
    return replace(was, dev=was.dev + 999)


@pytest.mark.parametrize("folder", ["", "a/b"])
def test_a_removed_file_has_left_with_its_folder_or_without(folder: str, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "other.mp3").touch()
    rel = os.path.join(folder, "x.mp3")
    was = settled(tmp_path / rel)
    with Root(os.fsencode(tmp_path)) as root:
        assert root.has_left(os.fsencode(rel), was)
        shutil.rmtree(tmp_path / "a")
        assert root.has_left(os.fsencode(rel), was)
        assert root.has_left(os.fsencode(rel), renumbered(was))


def test_a_file_removed_from_a_mount_below_the_root_has_left_and_one_on_a_lost_mount_has_not(
    mounted: Path,
) -> None:
    was = settled(mounted / "x.mp3")
    with Root(os.fsencode(mounted.parent)) as root:
        assert root.has_left(b"sub/x.mp3", was)
        assert root.has_left(b"sub/deeper/x.mp3", was)
        assert root.has_left(b"sub/x.mp3", renumbered(was))
        subprocess.run(["umount", "-l", mounted], check=True)
        assert not root.has_left(b"sub/x.mp3", was)
        assert not root.has_left(b"sub/deeper/x.mp3", was)
        (mounted / "x.mp3.status.json").touch()  # tnfd's own
        (mounted / ".tnfd-1-2.tmp").touch()
        assert not root.has_left(b"sub/x.mp3", was)


def test_under_a_new_device_number_an_empty_folder_may_be_a_bare_mount_point(tmp_path: Path) -> None:
    was = renumbered(settled(tmp_path / "x.mp3"))
    with Root(os.fsencode(tmp_path)) as root:
        assert not root.has_left(b"x.mp3", was)
        (tmp_path / "other.mp3").touch()
        assert root.has_left(b"x.mp3", was)


def test_a_folder_untouched_since_the_file_settled_is_not_the_one_that_it_left(tmp_path: Path) -> None:
    (tmp_path / "point").mkdir()
    (tmp_path / "point" / "old.mp3").touch()
    was = replace(renumbered(settled(tmp_path / "x.mp3")), ctime_ns=time.time_ns() + 10**9)
    with Root(os.fsencode(tmp_path)) as root:
        assert not root.has_left(b"point/x.mp3", was)
