"""Commands at a terminal: what fits on 80 columns, what is asked, what Ctrl-C does, colour or none."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fcntl import ioctl
from pathlib import Path

import pytest

from tests import stores
from tests.integration.test_commands import World
from tnfd.cli import terminal as terminal_words
from tnfd.errors import Fault
from tnfd.model import EngineChoice, FileRef
from tnfd.ports.claims import NAMELESS, Origin
from tnfd.ports.queue import Fail
from tnfd.rules.columns import width

REPOSITORY = Path(__file__, "../../..").resolve()
PAID = EngineChoice("paid", "openai", "gpt-transcribe")
LONG = "2026-11-23 Meeting of the board about the budget of the coming year, second part, with questions.mp3"
WIDE = "会議の録音データ、二〇二六年十一月二十三日、予算についての討論、第二部、質疑応答.mp3"


@pytest.fixture
async def world(tmp_path: Path) -> World:
    """Some jobs: done, failed, queued, with names of all lengths."""
    world = World(tmp_path)
    async with world.store() as store:
        await world.finish(store, await world.claim(store, "talk.mp3", "t"))
        await world.finish(store, await world.claim(store, LONG, "l"))
        lease = await stores.begin(store, await world.claim(store, WIDE, "w"))
        await store.finish(lease, Fail("media.not_media", "", "", retryable=False))
        granted = await stores.granted(store, stores.ask())
        await store.close(granted.reservation, cost_usd=0, fault=Fault("engine.no_quota", "x" * 200))
        await world.claim(store, "waits.mp3", "q")
    return world


def environ(world: World, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    given = {
        "PATH": os.environ["PATH"], "HOME": str(world.inbox.parent), "LANG": "C.UTF-8",
        "PYTHONPATH": str(REPOSITORY), "TNFD_CONFIG": str(world.file), "TERM": "xterm-256color",
    }  # fmt: skip
    return {**kept, **given, **more}


def tnfd(world: World, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tnfd", *arguments], env=environ(world, **more), cwd=REPOSITORY,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


class Terminal:
    """A command at a terminal of 80 x 24."""

    def __init__(self, world: World, *arguments: str, **more: str) -> None:
        self._ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tnfd", *arguments], env=environ(world, **more), cwd=REPOSITORY,
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C needs a controlling terminal
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""

    def until(self, wanted: str, times: int = 1) -> None:
        """Read until this was written so often."""
        end = time.monotonic() + 20
        while self.seen.count(wanted) < times:
            assert time.monotonic() < end, self.seen
            if not self._read():
                raise AssertionError(f"it ended without {wanted!r}: {self.seen}")

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], 1)[0]:
            return True
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # how Linux says that nobody is at the other end
            return False
        self.seen += data.decode()
        return bool(data)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def ended(self) -> int:
        """The exit code, with all that was written read."""
        while self._read():
            if self._process.poll() is not None and not select.select([self._ours], [], [], 0)[0]:
                break
        return self._process.wait(20)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._ours)


@contextlib.contextmanager
def at_terminal(world: World, *arguments: str, **more: str) -> Iterator[Terminal]:
    terminal = Terminal(world, *arguments, **more)
    try:
        yield terminal
    finally:
        terminal.close()


# -- what fits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [60, 80, 132])
@pytest.mark.parametrize("command", ["jobs", "status", "doctor"])
def test_lists_fit_the_screen(world: World, command: str, columns: int) -> None:
    said = tnfd(world, command, COLUMNS=str(columns)).stdout
    assert said
    free = [line for line in said.splitlines() if "->" not in line]  # a command to copy is never broken
    assert [line for line in free if width(line) > columns] == []
    assert "\x1b" not in said


def test_long_names_lose_their_middle_and_short_ones_nothing(world: World) -> None:
    said = tnfd(world, "jobs").stdout
    assert "in/talk.mp3" in said
    assert re.search(r"in/2026-11-23 M\S*.*…\S*.*questions\.mp3", said)
    assert re.search(r"in/会議.*….*応答\.mp3", said)
    assert re.search(r"failed .* media\.not_media$", said, re.MULTILINE)
    assert LONG in tnfd(world, "jobs", COLUMNS="200").stdout


def test_colour_is_for_terminals_and_for_who_wants_it(world: World) -> None:
    assert "\x1b[" not in tnfd(world, "jobs").stdout
    assert "\x1b[" in tnfd(world, "jobs", FORCE_COLOR="1").stdout
    with at_terminal(world, "jobs") as terminal:
        assert terminal.ended() == 0
        assert "\x1b[32mdone" in terminal.seen
    with at_terminal(world, "jobs", NO_COLOR="1") as terminal:
        assert terminal.ended() == 0
        assert "\x1b[" not in terminal.seen


def test_empty_states_say_what_to_do(tmp_path: Path) -> None:
    empty = World(tmp_path)
    assert "drop a recording" in tnfd(empty, "jobs").stdout
    assert tnfd(empty, "jobs", "--state", "failed").stdout == "No jobs with state failed.\n"
    assert tnfd(empty, "retry", "--failed").stdout == "Nothing has failed.\n"
    assert "Nothing to transcribe again." in tnfd(empty, "redo", "--inbox", "in").stdout
    assert json.loads(tnfd(empty, "jobs", "--json").stdout) == []


# -- watching ----------------------------------------------------------------------------------------------


def test_watch_draws_over_itself_until_ctrl_c(world: World) -> None:
    with at_terminal(world, "status", "--watch") as terminal:
        terminal.until("spent", 3)
        terminal.type("\x03")
        assert terminal.ended() == 3  # no daemon runs
    assert "Traceback" not in terminal.seen
    drawings = re.split(r"\x1b\[\d+A\r", terminal.seen)
    assert len(drawings) >= 3
    ups = [int(number) for number in re.findall(r"\x1b\[(\d+)A", terminal.seen)]
    assert ups[0] == drawings[0].count("\n")


def test_watch_into_a_pipe_is_one_object_a_line(world: World) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tnfd", "status", "--watch", "--json"], env=environ(world), cwd=REPOSITORY,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=20)
    assert [json.loads(line)["schema"] for line in [*lines, *rest.splitlines()]][:2] == ["tnfd.daemon/1"] * 2
    assert (process.returncode, errors) == (3, "")


# -- asking ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("\x03", 130), ("\x04", 130)])
def test_redo_asks_before_it_costs(world: World, typed: str, code: int) -> None:
    talk = str(world.inbox / "talk.mp3")
    with at_terminal(world, "redo", talk, "--engine", "paid") as terminal:
        terminal.until("[y/N]")
        terminal.type(typed)
        assert terminal.ended() == code, terminal.seen
    assert "Traceback" not in terminal.seen
    assert world.job("talk.mp3").state == ("queued" if code == 0 else "done")


def test_redo_that_is_free_does_not_ask(world: World) -> None:
    ran = tnfd(world, "redo", str(world.inbox / "talk.mp3"))
    assert ran.returncode == 0, ran.stderr
    assert "free" in ran.stdout
    assert world.job("talk.mp3").state == "queued"


def test_a_dry_run_changes_nothing(world: World) -> None:
    ran = tnfd(world, "redo", "--inbox", "in", "--engine", "paid", "--dry-run")
    assert ran.returncode == 0
    assert "2 files" in ran.stdout
    assert world.job("talk.mp3").state == "done"


# -- wrong usage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["cancel"], 2, "name files or jobs"),
        (["forget"], 2, "name files or jobs"),
        (["retry"], 2, "--failed"),
        (["redo"], 2, "--inbox"),
        (["redo", "x", "--inbox", "in"], 2, "not both"),
        (["redo", "--inbox", "out"], 2, "configured: in"),
        (["redo", "--inbox", "in", "--engine", "nix"], 2, "configured: lan, paid"),
        (["redo", "--inbox", "in", "--engine", "paid"], 2, "--yes"),
        (["pause", "nix"], 2, "there are: lan, paid"),
        (["resume", "nix"], 2, "there are: lan, paid"),
        (["jobs", "--state", "nix"], 2, "duplicate"),
        (["cancel", "nix.mp3", "nox.mp3"], 1, "nox.mp3"),
        (["status", "--config", "/nix.toml"], 78, "/nix.toml"),
    ],
)
def test_wrong_usage_says_what_would_be_right(
    world: World, arguments: list[str], code: int, said: str
) -> None:
    ran = tnfd(world, *arguments)
    assert ran.returncode == code
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


# -- completion --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tnfd jobs --state d", {"done", "duplicate"}),
        ("tnfd jobs --inbox ", {"in"}),
        ("tnfd pause ", {"lan", "paid"}),
        ("tnfd redo --engine p", {"paid"}),
        ("tnfd ca", {"cancel"}),
    ],
)
def test_the_shell_offers_what_is_configured(world: World, typed: str, offered: set[str]) -> None:
    code = "import sys; sys.argv = ['tnfd']; from tnfd.cli import main; main()"
    words = {"_TNFD_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environ(world, **words), cwd=REPOSITORY, capture_output=True,
        text=True, check=False, timeout=30,
    )  # fmt: skip
    assert set(ran.stdout.split()) == offered, ran.stderr


# -- words and times for people ----------------------------------------------------------------------------


def test_words_are_not_broken_at_the_edge_of_a_terminal(world: World) -> None:
    with at_terminal(world, "retry", "there-is-no-such-recording-in-this-folder.mp3") as terminal:
        assert terminal.ended() == 1
    lines = terminal.seen.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert "'there-is-no-such-recording-in-this-folder.mp3'" in terminal.seen
    said = tnfd(world, "retry", "there-is-no-such-recording-in-this-folder.mp3").stderr
    assert len(said.splitlines()) == 1  # programs get whole lines


def test_people_see_the_clock_on_the_wall_and_programs_utc(world: World) -> None:
    talk = str(world.inbox / "talk.mp3")
    shown = json.loads(tnfd(world, "show", talk, "--json", TZ="XYZ-5:30").stdout)["history"][0]["at"]
    at = datetime.fromisoformat(shown)
    assert at.utcoffset() == timedelta(0)
    assert (
        f"{at + timedelta(hours=5, minutes=30):%Y-%m-%d %H:%M:%S}  seen"
        in tnfd(world, "show", talk, TZ="XYZ-5:30").stdout
    )
    assert re.search(
        r"\d\d:\d\d XYZ$|\d\d:\d\d XYZ;", tnfd(world, "doctor", TZ="XYZ-5:30").stdout, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("left_s", "said"),
    [
        (-1, "now"),
        (90, "in 90 s"),
        (3600, "in 60 min"),
        (10 * 3600, "Fri 06:00"),
        (10 * 86400, "2026-01-11 20:00"),
    ],
)
def test_moments_ahead_are_spans_while_they_are_near(
    monkeypatch: pytest.MonkeyPatch, left_s: float, said: str
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    now = datetime(2026, 1, 1, 20, tzinfo=UTC)
    assert terminal_words.soon(now + timedelta(seconds=left_s), now) == said


async def test_files_outside_of_all_inboxes_are_named_by_their_path(world: World) -> None:
    async with world.store("batch") as store:
        other = world.inbox.parent / "elsewhere"
        other.mkdir()
        (other / "memo.mp3").write_text("m")
        found = world.found("memo.mp3", "m")
        ref = FileRef(os.fsencode(other), b"memo.mp3", found.ref.stat)
        origin = Origin(f"batch:{store.owner}", NAMELESS, world.origin().settings)
        await store.claim(origin, [dataclasses.replace(found, ref=ref)])
        assert "wait for" not in tnfd(world, "status").stdout.replace("\n  ", " ")
        assert tnfd(world, "retry", str(other / "memo.mp3")).returncode == 0  # its batch is at work
    assert "~/elsewhere/memo.mp3" in tnfd(world, "jobs").stdout
    ran = tnfd(world, "retry", str(other / "memo.mp3"))
    assert ran.returncode == 1
    assert ran.stderr == (
        f"~/elsewhere/memo.mp3: no configured inbox holds it; run: tnfd batch {other / 'memo.mp3'}\n"
    )
    assert "1 file waits for a batch that was stopped" in tnfd(world, "status").stdout.replace("\n  ", " ")
