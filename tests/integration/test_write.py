"""Writing beside recordings: real files, real crashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tnfd.errors import Fault, NameTaken
from tnfd.outputs.publish import Way, link_and_unlink, look_and_rename, publish, rename_exclusive
from tnfd.outputs.status import read_status, remove_status, write_status
from tnfd.outputs.taken import TakenNames
from tnfd.outputs.write import (
    fault_of_write,
    hash_file,
    list_names,
    name_limit,
    read_file,
    remove_file,
    sweep_temps,
    write_file,
)
from tnfd.rules.names import candidate_names, fold, status_name

JOB = "01JABC"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def source(path: Path, mode: int) -> os.stat_result:
    path.write_bytes(b"audio")
    path.chmod(mode)
    return path.stat()


def test_file_is_written_whole_and_leaves_nothing_else(folder: int, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    assert write_file(folder, b"talk.txt", data, job=JOB, verify=True) == sha(data)
    assert (tmp_path / "talk.txt").read_bytes() == data
    assert os.listdir(tmp_path) == ["talk.txt"]


def test_empty_file_is_written(folder: int, tmp_path: Path) -> None:
    write_file(folder, b"talk.txt", b"", job=JOB, verify=True)
    assert (tmp_path / "talk.txt").read_bytes() == b""


def test_name_that_is_not_utf8_and_of_full_length_is_written(folder: int, tmp_path: Path) -> None:
    name = b"\xe9" * 255
    write_file(folder, name, b"x", job=JOB)
    assert os.listdir(os.fsencode(tmp_path)) == [name]
    long = next(candidate_names(b"n" * 255, "txt", "{stem}.{ext}", None, sha(b"")))
    write_file(folder, long, b"x", job="J" * 64)


def test_foreign_file_is_never_overwritten(folder: int, tmp_path: Path) -> None:
    (tmp_path / "talk.txt").write_text("mine")
    with pytest.raises(NameTaken):
        write_file(folder, b"talk.txt", b"new", job=JOB)
    with pytest.raises(NameTaken):
        write_file(folder, b"talk.txt", b"new", job=JOB, own=(sha(b"what we once wrote"),))
    assert (tmp_path / "talk.txt").read_text() == "mine"
    assert os.listdir(tmp_path) == ["talk.txt"]


def test_own_file_is_replaced_unless_somebody_edited_it(folder: int, tmp_path: Path) -> None:
    first = write_file(folder, b"talk.txt", b"first", job=JOB)
    second = write_file(folder, b"talk.txt", b"second", job=JOB, own=(first,))
    assert (tmp_path / "talk.txt").read_bytes() == b"second"
    with (tmp_path / "talk.txt").open("ab") as file:
        file.write(b" edited")
    with pytest.raises(NameTaken):
        write_file(folder, b"talk.txt", b"third", job=JOB, own=(first, second))
    assert (tmp_path / "talk.txt").read_bytes() == b"second edited"


def test_same_content_already_there_counts_as_written(folder: int, tmp_path: Path) -> None:
    write_file(folder, b"talk.txt", b"same", job=JOB)
    before = (tmp_path / "talk.txt").stat().st_ino
    assert write_file(folder, b"talk.txt", b"same", job="01JOTHER") == sha(b"same")
    assert (tmp_path / "talk.txt").stat().st_ino == before
    assert os.listdir(tmp_path) == ["talk.txt"]


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe"])
def test_what_is_no_regular_file_keeps_its_name(folder: int, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(b"new")  # even with the same content behind the link
    path = tmp_path / "talk.txt"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(target if kind == "link" else "nowhere")
    with pytest.raises(NameTaken):
        write_file(folder, b"talk.txt", b"new", job=JOB, own=(sha(b"new"),))
    assert hash_file(folder, b"talk.txt") is None
    assert read_file(folder, b"talk.txt", max_bytes=9) is None
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", [b"", b".", b"..", b"../talk.txt", b"/tmp/talk.txt"])
def test_path_is_no_name(folder: int, name: bytes) -> None:
    with pytest.raises(ValueError, match="not a name"):
        write_file(folder, name, b"x", job=JOB)


@pytest.mark.parametrize(
    ("mode", "expected"), [(0o640, 0o640), (0o777, 0o666), (0o600, 0o600), (0o4444, 0o444), (0o020, 0o420)]
)
def test_output_has_the_bits_of_its_source_whatever_the_umask(
    folder: int, tmp_path: Path, mode: int, expected: int
) -> None:
    before = os.umask(0o077)
    try:
        write_file(folder, b"talk.txt", b"x", job=JOB, mode_from=source(tmp_path / "talk.mp3", mode))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "talk.txt").stat().st_mode) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give folders to any group")
def test_output_has_the_group_of_its_folder(folder: int, tmp_path: Path) -> None:
    os.chown(tmp_path, -1, 54321)
    write_file(folder, b"talk.txt", b"x", job=JOB, mode_from=source(tmp_path / "talk.mp3", 0o660))
    assert (tmp_path / "talk.txt").stat().st_gid == 54321


_AS_NOBODY = """
import ctypes, os, sys  # nobody may not be able to read the interpreter's library
from tnfd.errors import Fault, NameTaken
from tnfd.outputs.status import write_status
from tnfd.outputs.write import write_file
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
os.setegid(65534); os.seteuid(65534)
try:
    if sys.argv[2] == "status":
        write_status(fd, b"talk.txt", b"{}", job="01J", source_name=b"talk")
    else:
        write_file(fd, b"talk.txt", b"x", job="01J", mode_from=os.fstat(fd))
except Fault as fault:
    print(fault.code)
except NameTaken:
    print("taken")
else:
    print("written")
"""


def as_nobody(folder: Path, what: str = "output") -> str:
    return subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, folder, what],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
class TestAsSomebodyElse:
    def test_folder_that_is_not_writable_is_a_fault(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        assert as_nobody(tmp_path) == "output.unwritable"
        assert os.listdir(tmp_path) == []

    def test_group_that_may_not_be_given_is_no_fault(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        assert as_nobody(tmp_path) == "written"

    @pytest.mark.parametrize("what", ["output", "status"])
    def test_file_that_may_not_be_read_is_taken(self, tmp_path: Path, what: str) -> None:
        tmp_path.chmod(0o777)
        (tmp_path / "talk.txt").write_text("secret")
        (tmp_path / "talk.txt").chmod(0o600)
        assert as_nobody(tmp_path, what) == "taken"
        assert os.listdir(tmp_path) == ["talk.txt"]


def test_folder_that_was_removed_is_a_fault(folder: int, tmp_path: Path) -> None:
    tmp_path.rmdir()
    with pytest.raises(Fault) as caught:
        write_file(folder, b"talk.txt", b"x", job=JOB)
    assert caught.value.code == "output.io"


CALLS: list[Callable[[int], object]] = [
    lambda fd: write_file(fd, b"x", b"x", job=JOB),
    lambda fd: hash_file(fd, b"x"),
    lambda fd: read_file(fd, b"x", max_bytes=9),
    lambda fd: remove_file(fd, b"x", own=(sha(b"x"),)),
    lambda fd: sweep_temps(fd, JOB),
    lambda fd: taken_by(Ticks()).folded(fd),
    lambda fd: write_status(fd, b"x", b"x", job=JOB, source_name=b"x"),
]


@pytest.mark.parametrize("call", CALLS)
def test_errors_of_the_system_never_come_out_bare(tmp_path: Path, call: Callable[[int], object]) -> None:
    (tmp_path / "x").touch()
    with (tmp_path / "x").open() as no_folder, pytest.raises(Fault) as caught:
        call(no_folder.fileno())
    assert caught.value.code == "output.io"


_WITH_A_SMALL_LIMIT = """
import os, resource, sys
from tnfd.errors import Fault
from tnfd.outputs.write import write_file
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
try:
    write_file(fd, b"talk.txt", b"x" * 10000, job="01J")
except Fault as fault:
    print(fault.code)
"""


def test_write_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITH_A_SMALL_LIMIT, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.strip() == "output.io"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "output.disk_full"),
        (errno.EDQUOT, "output.disk_full"),
        (errno.EACCES, "output.unwritable"),
        (errno.EPERM, "output.unwritable"),
        (errno.EROFS, "output.unwritable"),
        (errno.EIO, "output.io"),
        (errno.ESTALE, "output.io"),
    ],
)
def test_errors_of_the_system_have_codes(number: int, code: str) -> None:
    assert fault_of_write(OSError(number, "x")).code == code


_KILLED = """
import os, sys
from tnfd.outputs.write import write_file
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
write_file(fd, b"talk.txt", b"words", job="01JABC")
"""


def killed_at(step: str, folder: Path) -> list[str]:
    environment = {**os.environ, "TNFD_TEST_KILL_AT": step}
    done = subprocess.run([sys.executable, "-c", _KILLED, folder], env=environment, check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL
    return os.listdir(folder)


def test_kill_before_the_rename_leaves_a_temp_that_only_its_own_job_sweeps(
    folder: int, tmp_path: Path
) -> None:
    [temp] = killed_at("output.temp_written", tmp_path)
    assert temp.startswith(".tnfd-01JABC-")
    foreign = [".tnfd-01JABC-notes.tmp", ".tnfd-01JABCD-01234567.tmp", "x.tmp", ".tnfd-01JABC-01234567.tmp~"]
    for name in foreign:
        (tmp_path / name).touch()
    assert sweep_temps(folder, "01JAB") == 0
    assert sweep_temps(folder, JOB) == 1
    assert sorted(os.listdir(tmp_path)) == sorted(foreign)
    write_file(folder, b"talk.txt", b"words", job=JOB)


def test_kill_after_the_rename_is_mended_by_writing_again(folder: int, tmp_path: Path) -> None:
    assert killed_at("output.renamed", tmp_path) == ["talk.txt"]
    assert write_file(folder, b"talk.txt", b"words", job=JOB) == sha(b"words")
    assert os.listdir(tmp_path) == ["talk.txt"]


def test_sweep_leaves_what_is_being_written(folder: int, tmp_path: Path) -> None:
    stop = threading.Event()

    def sweeps() -> None:
        while not stop.is_set():
            sweep_temps(folder, JOB)

    thread = threading.Thread(target=sweeps)
    thread.start()
    try:
        for n in range(100):
            write_file(folder, b"%d.txt" % n, b"x", job=JOB)
    finally:
        stop.set()
        thread.join()
    assert len(os.listdir(tmp_path)) == 100


def test_job_id_that_could_lead_elsewhere_is_refused(folder: int) -> None:
    for job in ("", "../x", "a b", "x" * 65):
        with pytest.raises(ValueError, match="not a job id"):
            sweep_temps(folder, job)


def test_many_writers_of_one_name_leave_one_whole_file(folder: int, tmp_path: Path) -> None:
    contents = [bytes([65 + n]) * 100_000 for n in range(8)]
    lost: list[bytes] = []

    def write(data: bytes) -> None:
        try:
            write_file(folder, b"talk.txt", data, job=JOB)
        except NameTaken:
            lost.append(data)

    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) == 7
    assert (tmp_path / "talk.txt").read_bytes() in set(contents) - set(lost)
    assert os.listdir(tmp_path) == ["talk.txt"]


WAYS = [rename_exclusive, link_and_unlink, look_and_rename]


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_naming_moves_and_never_replaces(folder: int, tmp_path: Path, way: Way) -> None:
    (tmp_path / "temp").write_text("new")
    way(folder, b"temp", b"talk.txt")
    assert os.listdir(tmp_path) == ["talk.txt"]
    (tmp_path / "temp").write_text("newer")
    with pytest.raises(FileExistsError):
        way(folder, b"temp", b"talk.txt")
    assert (tmp_path / "talk.txt").read_text() == "new"
    assert (tmp_path / "temp").read_text() == "newer"


def test_link_whose_answer_was_lost_counts_as_done(folder: int, tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("new")
    os.link(tmp_path / "temp", tmp_path / "talk.txt")
    link_and_unlink(folder, b"temp", b"talk.txt")
    assert os.listdir(tmp_path) == ["talk.txt"]


def test_way_that_the_file_system_does_not_know_gives_way_to_the_next(folder: int, tmp_path: Path) -> None:
    def unknown(dir_fd: int, temp: bytes, name: bytes) -> None:
        raise OSError(errno.ENOTSUP, "not here")

    def broken(dir_fd: int, temp: bytes, name: bytes) -> None:
        raise OSError(errno.EIO, "broken")

    (tmp_path / "temp").write_text("new")
    with pytest.raises(OSError, match="broken"):
        publish(folder, b"temp", b"talk.txt", (unknown, broken, look_and_rename))
    publish(folder, b"temp", b"talk.txt", (unknown, unknown, look_and_rename))
    assert os.listdir(tmp_path) == ["talk.txt"]


def test_removal_takes_only_what_is_ours(folder: int, tmp_path: Path) -> None:
    digest = write_file(folder, b"talk.txt", b"words", job=JOB)
    assert not remove_file(folder, b"talk.txt", own=(sha(b"other"),))
    assert not remove_file(folder, b"nothing.txt", own=(digest,))
    assert remove_file(folder, b"talk.txt", own=(digest,))
    assert os.listdir(tmp_path) == []


def test_large_file_is_not_read_whole(folder: int, tmp_path: Path) -> None:
    (tmp_path / "talk.txt").write_bytes(b"12345")
    assert read_file(folder, b"talk.txt", max_bytes=5) == b"12345"
    assert read_file(folder, b"talk.txt", max_bytes=4) is None


def test_listing_one_handle_in_many_threads_is_whole_each_time(folder: int, tmp_path: Path) -> None:
    for n in range(2000):
        (tmp_path / f"{n}").touch()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: len(set(list_names(folder))), range(40)))
    assert set(found) == {2000}


def test_name_limit_is_that_of_the_file_system(folder: int) -> None:
    assert name_limit(folder) == 255


class Ticks:
    """A clock that moves on by ``step_s`` each time it is asked."""

    def __init__(self) -> None:
        self.at_s, self.step_s = 0.0, 0.0

    def monotonic(self) -> float:
        self.at_s += self.step_s
        return self.at_s


def taken_by(clock: Ticks) -> TakenNames:
    return TakenNames(clock)  # type: ignore[arg-type]


def touch_at(path: Path, mtime_ns: int) -> None:
    os.utime(path, ns=(mtime_ns, mtime_ns))


def test_taken_names_are_folded_and_follow_the_folder(folder: int, tmp_path: Path) -> None:
    taken = taken_by(Ticks())
    (tmp_path / "TALK.txt").touch()
    touch_at(tmp_path, 1)
    assert taken.folded(folder) == {fold(b"talk.txt")}
    (tmp_path / "more.txt").touch()
    touch_at(tmp_path, 2)
    assert taken.folded(folder) == {fold(b"talk.txt"), fold(b"more.txt")}


def test_unchanged_folder_is_not_listed_again(folder: int, tmp_path: Path) -> None:
    taken = taken_by(Ticks())
    touch_at(tmp_path, 1)
    first = taken.folded(folder)
    (tmp_path / "more.txt").touch()
    touch_at(tmp_path, 1)  # as if nothing had happened
    assert taken.folded(folder) is first


def test_changing_folder_is_listed_a_twentieth_of_the_time(folder: int, tmp_path: Path) -> None:
    clock = Ticks()
    taken = taken_by(clock)
    clock.step_s = 1.0  # a listing takes one second
    first = taken.folded(folder)
    clock.step_s = 0.0
    (tmp_path / "more.txt").touch()
    touch_at(tmp_path, 1)
    clock.at_s += 19
    assert taken.folded(folder) is first
    clock.at_s += 1
    assert taken.folded(folder) == {fold(b"more.txt")}


def test_few_folders_are_remembered(tmp_path: Path) -> None:
    taken = taken_by(Ticks())
    for n in range(20):
        (tmp_path / str(n)).mkdir()
        fd = os.open(tmp_path / str(n), os.O_RDONLY | os.O_DIRECTORY)
        assert taken.folded(fd) == frozenset()
        os.close(fd)
    assert len(taken._listings) == 8


def status(job: str, name: str = "talk.mp3", **more: object) -> bytes:
    return json.dumps({"schema": "tnfd.status/1", "job": job, "source": {"name": name}, **more}).encode()


STATUS = status_name(b"talk.mp3")


@pytest.mark.parametrize(
    "before", [status("01J1", state="queued"), status("01J0"), status("01J1", "old name.mp3")]
)
def test_status_replaces_one_of_this_job_or_this_name(folder: int, tmp_path: Path, before: bytes) -> None:
    (tmp_path / STATUS.decode()).write_bytes(before)
    write_status(folder, STATUS, status("01J1", state="done"), job="01J1", source_name=b"talk.mp3")
    assert (tmp_path / STATUS.decode()).read_bytes() == status("01J1", state="done")
    assert os.listdir(tmp_path) == [STATUS.decode()]


@pytest.mark.parametrize(
    "before", [b"", b"{}", b'{"job": "01J1"}', status("01J0", "other.mp3"), b"x" * 2_000_000]
)
def test_status_never_replaces_anything_else(folder: int, tmp_path: Path, before: bytes) -> None:
    (tmp_path / STATUS.decode()).write_bytes(before)
    with pytest.raises(NameTaken):
        write_status(folder, STATUS, status("01J1"), job="01J1", source_name=b"talk.mp3")
    assert not remove_status(folder, STATUS, job="01J1", source_name=b"talk.mp3")
    assert (tmp_path / STATUS.decode()).read_bytes() == before


def test_status_of_ours_is_removed(folder: int, tmp_path: Path) -> None:
    write_status(folder, STATUS, status("01J1"), job="01J1", source_name=b"talk.mp3")
    assert read_status(folder, STATUS) is None  # not whole, so not to be believed
    assert remove_status(folder, STATUS, job="01J1", source_name=b"talk.mp3")
    assert read_status(folder, STATUS) is None
    assert os.listdir(tmp_path) == []
