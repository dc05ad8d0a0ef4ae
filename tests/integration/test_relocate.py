"""Taking recordings elsewhere, or away: real files, on one file system and between two."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tnfd.errors import Fault, NameTaken, SourceChanged, SourceVanished
from tnfd.model import StatKey
from tnfd.outputs.relocate import copy, look, remove, rename
from tnfd.outputs.write import sweep_temps

JOB = "01JABC"
WORDS = os.urandom(3 << 20)
SHA = hashlib.sha256(WORDS).hexdigest()


class Folder:
    """A folder and its handle."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path))

    def put(self, name: str, data: bytes = WORDS) -> StatKey:
        (self.path / name).write_bytes(data)
        return StatKey.of((self.path / name).stat())


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "here").mkdir()
    folder = Folder(tmp_path / "here")
    yield folder
    os.close(folder.fd)


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "there").mkdir()
    folder = Folder(tmp_path / "there")
    yield folder
    os.close(folder.fd)


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Folder]:
    """A folder on another file system."""
    memory = Path("/dev/shm")  # noqa: S108
    if (
        not memory.is_dir()
        or memory.stat().st_dev == tmp_path.stat().st_dev
        or not os.access(memory, os.W_OK)
    ):
        pytest.skip("there is one file system only")
    with tempfile.TemporaryDirectory(dir=memory) as name:
        folder = Folder(Path(name))
        yield folder
        os.close(folder.fd)


def test_rename_takes_a_file_to_another_folder(here: Folder, there: Folder) -> None:
    was = here.put("talk.mp3")
    assert rename(here.fd, b"talk.mp3", there.fd, b"talk.mp3")
    assert here.names() == []
    st = look(there.fd, b"talk.mp3")
    assert st is not None
    assert was.same_content(StatKey.of(st))


def test_rename_never_replaces(here: Folder, there: Folder) -> None:
    here.put("talk.mp3")
    there.put("talk.mp3", b"mine")
    with pytest.raises(NameTaken):
        rename(here.fd, b"talk.mp3", there.fd, b"talk.mp3")
    assert (there.path / "talk.mp3").read_bytes() == b"mine"
    assert (here.path / "talk.mp3").read_bytes() == WORDS


def test_rename_of_what_is_gone_says_so(here: Folder, there: Folder) -> None:
    with pytest.raises(SourceVanished):
        rename(here.fd, b"talk.mp3", there.fd, b"talk.mp3")


def test_rename_does_not_reach_another_disk(here: Folder, away: Folder) -> None:
    here.put("talk.mp3")
    assert not rename(here.fd, b"talk.mp3", away.fd, b"talk.mp3")
    assert here.names() == ["talk.mp3"]
    assert away.names() == []


def test_copy_is_whole_hidden_and_keeps_times_and_permissions(here: Folder, away: Folder) -> None:
    here.put("talk.mp3")
    os.utime(here.path / "talk.mp3", ns=(1_700_000_000_123_456_789, 1_700_000_001_987_654_321))
    (here.path / "talk.mp3").chmod(0o640)
    was = (here.path / "talk.mp3").stat()
    temp, ino = copy(here.fd, b"talk.mp3", away.fd, job=JOB, sha256=SHA)
    assert [name.encode() for name in away.names()] == [temp]
    assert temp.startswith(b".tnfd-")
    assert rename(away.fd, temp, away.fd, b"talk.mp3")
    now = (away.path / "talk.mp3").stat()
    assert now.st_ino == ino
    assert (now.st_mtime_ns, now.st_mode, now.st_uid) == (was.st_mtime_ns, was.st_mode, was.st_uid)
    assert (away.path / "talk.mp3").read_bytes() == WORDS
    assert here.names() == ["talk.mp3"]


def test_copy_of_another_content_is_refused_and_leaves_nothing(here: Folder, away: Folder) -> None:
    here.put("talk.mp3", b"another recording")
    with pytest.raises(SourceChanged):
        copy(here.fd, b"talk.mp3", away.fd, job=JOB, sha256=SHA)
    with pytest.raises(SourceVanished):
        copy(here.fd, b"gone.mp3", away.fd, job=JOB, sha256=SHA)
    assert away.names() == []


def test_copy_that_cannot_be_written_says_so_and_leaves_nothing(here: Folder) -> None:
    here.put("talk.mp3")
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20));"
    code = f"{limit} import os; from tnfd.outputs.relocate import copy; from tnfd.errors import Fault\n"
    code += f"fd = os.open({str(here.path)!r}, os.O_RDONLY)\n"
    code += f"try: copy(fd, b'talk.mp3', fd, job={JOB!r}, sha256=None)\n"
    code += "except Fault as fault: print(fault.code)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "output.io"
    assert here.names() == ["talk.mp3"]


def test_a_copy_that_a_kill_left_is_swept(here: Folder, there: Folder) -> None:
    here.put("talk.mp3")
    copy(here.fd, b"talk.mp3", there.fd, job=JOB, sha256=None)
    assert sweep_temps(there.fd, JOB) == 1
    assert there.names() == []


def test_remove_takes_the_recording_that_is_meant(here: Folder) -> None:
    key = here.put("talk.mp3")
    here.put("other.mp3", b"other")
    remove(here.fd, b"talk.mp3", job=JOB, key=key)
    remove(here.fd, b"talk.mp3", job=JOB, key=key)  # again, as after a kill
    assert here.names() == ["other.mp3"]


def test_remove_gives_another_recording_its_name_back(here: Folder) -> None:
    key = here.put("talk.mp3")
    (here.path / "new").write_bytes(WORDS)
    os.replace(here.path / "new", here.path / "talk.mp3")
    with pytest.raises(SourceChanged):
        remove(here.fd, b"talk.mp3", job=JOB, key=key)
    assert here.names() == ["talk.mp3"]


def killed_while_hidden(folder: Folder, key: StatKey) -> None:
    numbers = (key.dev, key.ino, key.size_bytes, key.mtime_ns, key.ctime_ns)
    code = "import os; from tnfd.model import StatKey; from tnfd.outputs.relocate import remove\n"
    code += f"fd = os.open({str(folder.path)!r}, os.O_RDONLY)\n"
    code += f"remove(fd, b'talk.mp3', job={JOB!r}, key=StatKey{numbers!r})"
    environment = {**os.environ, "TNFD_TEST_KILL_AT": "after.hidden"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert ran.returncode == -signal.SIGKILL


def test_remove_goes_on_where_a_kill_left_it_and_spares_what_came_meanwhile(here: Folder) -> None:
    key = here.put("talk.mp3")
    killed_while_hidden(here, key)
    (hidden,) = here.names()
    assert hidden.startswith(".tnfd-")
    assert sweep_temps(here.fd, JOB) == 0  # a recording is nothing that is swept away
    here.put("talk.mp3", b"new")
    remove(here.fd, b"talk.mp3", job=JOB, key=key)
    assert here.names() == ["talk.mp3"]
    assert (here.path / "talk.mp3").read_bytes() == b"new"


def test_what_cannot_be_written_to_says_so(here: Folder, there: Folder) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    key = here.put("talk.mp3")
    here.path.chmod(0o500)
    try:
        with pytest.raises(Fault, match=r"output\.unwritable"):
            rename(here.fd, b"talk.mp3", there.fd, b"talk.mp3")
        with pytest.raises(Fault, match=r"output\.unwritable"):
            remove(here.fd, b"talk.mp3", job=JOB, key=key)
    finally:
        here.path.chmod(0o700)
