"""What a log line looks like, and what never stands in one."""

from __future__ import annotations

import errno
import io
import json
import logging
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
import structlog

from tnfd.logs import configure, fold, for_people, mask

KEY = "sk-proj-abc_DEF-1234567890"


class Stream(io.StringIO):
    """A terminal, or not."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


Start = Callable[..., Stream]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Configure logging onto a stream of the test's own; undone afterwards."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]

    def begin(
        log_format: str = "json", log_level: str = "info", *, terminal: bool = False, **environ: str
    ) -> Stream:
        stream = Stream(terminal=terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        configure(log_format, log_level, environ=environ)
        return stream

    yield begin
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def log() -> Any:
    return structlog.get_logger("tnfd.test")


def lines(stream: Stream) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# -- the two formats -------------------------------------------------------------------------------------


def test_machine_gets_an_object_a_line(start: Start) -> None:
    stream = start("json")
    log().info("job.finished", file="talk.mp3", took_s=3.25, outputs=2, flags=None)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line["event"] == "job.finished"
    assert line["level"] == "info"
    assert (line["file"], line["took_s"], line["outputs"]) == ("talk.mp3", 3.25, 2)


@pytest.mark.parametrize(
    ("line", "columns", "folded"),
    [
        ("16:02:11 info    job.queued       file=a.mp3", 80, "16:02:11 info    job.queued       file=a.mp3"),
        (
            "16:02:11 info    daemon.ready     pid=77 workers=5 state_dir=/home/ada/.local/state/tnfd",
            60,
            "16:02:11 info    daemon.ready     pid=77 workers=5\n"
            "                 state_dir=/home/ada/.local/state/tnfd",
        ),
        (  # what has no space is left whole: paths are copied from here
            "16:02:11 info    job.queued       file=" + "x" * 70 + " job=01J",
            60,
            "16:02:11 info    job.queued\n                 file=" + "x" * 70 + "\n                 job=01J",
        ),
    ],
)
def test_line_is_folded_to_the_terminal(line: str, columns: int, folded: str) -> None:
    assert fold(line, columns) == folded


def test_people_get_a_line_to_read(start: Start) -> None:
    stream = start("console")
    log().info("job.finished", file="my talk.mp3", took_s=3.14159, empty="", flags=None, whole=2.0)
    time, _, rest = stream.getvalue().partition(" ")
    datetime.strptime(time, "%H:%M:%S")  # noqa: DTZ007
    assert rest.split() == [
        "info",
        "job.finished",
        'file="my',
        'talk.mp3"',
        "took_s=3.142",
        'empty=""',
        "whole=2",
    ]


@pytest.mark.parametrize(
    ("terminal", "environ", "as_json"),
    [(True, {}, False), (False, {}, True), (True, {"JOURNAL_STREAM": "8:1"}, True)],
)
def test_auto_is_for_people_on_a_terminal(
    start: Start, terminal: bool, environ: dict[str, str], as_json: bool
) -> None:
    stream = start("auto", terminal=terminal, **environ)
    log().info("daemon.ready")
    assert ('"event"' in stream.getvalue()) is as_json


def test_level_is_kept(start: Start) -> None:
    stream = start("json", "warning")
    log().info("quiet")
    log().warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_journal_gets_a_priority_on_each_line(start: Start, log_format: str) -> None:
    stream = start(log_format, "debug", JOURNAL_STREAM="8:1")
    log().debug("a")
    log().warning("b")
    try:
        raise ValueError("x")
    except ValueError:
        log().exception("c")
    written = stream.getvalue().splitlines()
    assert written[0].startswith("<7>")
    assert written[1].startswith("<4>")
    assert all(line.startswith("<3>") for line in written[2:])
    assert len(written) == 3 if log_format == "json" else len(written) > 4


def test_context_of_the_job_is_on_its_lines(start: Start) -> None:
    stream = start("json")
    structlog.contextvars.bind_contextvars(job="01ABC")
    log().info("job.started")
    assert lines(stream)[0]["job"] == "01ABC"


# -- what never stands there -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"the key {KEY}.", "the key ***."),
        (f"Authorization: Bearer {KEY}", "Authorization: ***"),
        ("Bearer abc.def", "***"),
        (f"{KEY}{KEY}", "***"),
        ("task-force sk-short", "task-force sk-short"),
        ("nothing", "nothing"),
    ],
)
def test_keys_are_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


class Shows:
    def __str__(self) -> str:
        return f"shows {KEY}"

    __repr__ = __str__


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    "value",
    [
        KEY,
        [KEY],
        {"header": f"Bearer {KEY}"},
        (1, {"deep": [KEY]}),
        {KEY},
        Shows(),
        ValueError(KEY),
        KEY.encode(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_keys_are_masked_wherever_they_hide(start: Start, log_format: str, value: object) -> None:
    stream = start(log_format)
    log().warning(f"said {KEY}", value=value)
    try:
        raise RuntimeError(f"in a traceback: {KEY}") from ValueError(KEY)
    except RuntimeError:
        log().exception("failed")
    assert "sk-proj" not in stream.getvalue()
    assert stream.getvalue().count("***") >= 4


def test_numbers_stay_numbers(start: Start) -> None:
    stream = start("json")
    log().info("x", whole=3, part=0.5, yes=True, several=[1, 2.5], path=Path("/in/a b"))
    (line,) = lines(stream)
    assert (line["whole"], line["part"], line["yes"], line["several"]) == (3, 0.5, True, [1, 2.5])
    assert line["path"] == "/in/a b"


def test_moments_are_utc(start: Start) -> None:
    stream = start("json")
    local = datetime(2026, 11, 23, 17, 2, 11, tzinfo=timezone(timedelta(hours=1)))
    log().info("x", until=local, since=datetime(2026, 1, 1, tzinfo=UTC))
    (line,) = lines(stream)
    assert (line["until"], line["since"]) == ("2026-11-23T16:02:11Z", "2026-01-01T00:00:00Z")


@pytest.mark.parametrize("character", ["\x1b", "\n", "\r", "\x07", "\x9b", "\u202e", "\u2028", "\udcff"])
def test_nothing_acts_on_a_terminal(start: Start, character: str) -> None:
    stream = start("console")
    log().info("file.seen", file=f"a{character}[31mb.mp3")
    try:
        raise ValueError(f"a{character}[31mb")
    except ValueError:
        log().exception("failed")
    written = stream.getvalue()
    if character == "\n":
        assert written.count("\n") == 2 + written.count("\n", written.index("failed")) - 1
        assert "a\\x0a[31mb.mp3" in written
    else:
        assert character not in written
        assert written.count(f"\\x{ord(character):02x}[31mb") == 2


def test_json_survives_what_is_not_text(start: Start) -> None:
    stream = start("json")
    log().info("file.seen", file="a\udcff\x1b.mp3")
    assert lines(stream)[0]["file"] == "a\udcff\x1b.mp3"
    assert stream.getvalue().isascii()


# -- where it goes ---------------------------------------------------------------------------------------


class Broken(Stream):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, _text: str) -> int:
        raise self.error


@pytest.mark.parametrize("error", [OSError(errno.EPIPE, "gone"), ValueError("I/O operation on closed file")])
def test_lost_terminal_stops_nothing(monkeypatch: pytest.MonkeyPatch, start: Start, error: Exception) -> None:
    start()
    monkeypatch.setattr(sys, "stderr", Broken(error))
    configure("json", "info", environ={})
    log().info("x")


def test_process_without_a_stderr_logs_to_nobody() -> None:
    code = "import structlog, tnfd.logs as it; it.configure('auto', 'info'); structlog.get_logger().info('x')"
    shell = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code]
    assert subprocess.run(shell, check=False, timeout=30, stdout=subprocess.PIPE).returncode == 0


def test_libraries_that_log_keys_are_silenced(start: Start) -> None:
    stream = start()
    for name in ("openai", "httpx", "httpcore"):
        logging.getLogger(f"{name}.sub").warning("Authorization: %s", KEY)
    assert stream.getvalue() == ""


def test_people_get_moments_by_the_clock_of_the_line(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    stream = start("console")
    log().info("engine.paused", until=datetime(2026, 1, 1, 12, tzinfo=UTC))
    assert "until=2026-01-01T17:30:00\n" in stream.getvalue()


def test_log_of_people_is_folded_to_the_terminal_that_it_goes_to(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with open(theirs, "w") as screen, open(ours, "rb", buffering=0) as seen:
        monkeypatch.setattr(sys, "stderr", screen)
        configure("auto", "info", environ={})
        log().info("job.finished", file="talk.mp3", state="done", took_s=1.5, waited_s=7, audio_s=60.0)
        lines = seen.read(4096).decode().splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
    assert lines[1] == " " * 17 + "audio_s=60"


# -- a log that is a plain file ----------------------------------------------------------------------------

_LONG_LIVED = """
import sys, structlog
import tnfd.logs as logs
logs.Rotation.__init__.__kwdefaults__["most_bytes"] = 2000
logs.configure("json", "info", rotate=True)
for number in range(int(sys.argv[1])):
    structlog.get_logger().info("job.finished", number=number, filler="x" * 50)
sys.stderr.write("what a library says\\n")
sys.stderr.flush()
"""


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["number"] for line in path.read_text().splitlines() if line.startswith("{")]


def write_log(path: Path, count: int, mode: str = "ab") -> None:
    with path.open(mode) as log:
        subprocess.run([sys.executable, "-c", _LONG_LIVED, str(count)], stdout=log, stderr=log, check=True)


def test_a_plain_file_is_rotated_and_no_line_is_lost(tmp_path: Path) -> None:
    log = tmp_path / "tnfd.log"
    write_log(log, 60)
    older = [
        tmp_path / f"tnfd.log.{number}"
        for number in (4, 3, 2, 1)
        if (tmp_path / f"tnfd.log.{number}").exists()
    ]
    found = [number for path in [*older, log] for number in numbers(path)]
    assert found == list(range(60))[-len(found) :]
    assert len(found) > 30
    assert all(path.stat().st_size < 2400 for path in older)
    assert log.read_text().endswith("what a library says\n")


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    write_log(tmp_path / "tnfd.log", 400)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tnfd.log", "tnfd.log.1", "tnfd.log.2", "tnfd.log.3", "tnfd.log.4",
    ]  # fmt: skip


def test_where_it_cannot_be_rotated_the_log_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "tnfd.log"
    (tmp_path / "tnfd.log.3").write_text("older")
    (tmp_path / "tnfd.log.4").mkdir()  # nothing can take its place
    write_log(log, 60)
    assert numbers(log) == list(range(60))
    assert (tmp_path / "tnfd.log.3").read_text() == "older"


def test_loggers_that_were_bound_before_follow_another_level(start: Start) -> None:
    stream = start("json", "info")
    bound = log().bind(inbox="a")
    bound.debug("before")
    configure("json", "debug", environ={})
    bound.debug("after")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["after"]


def test_a_json_line_as_people_read_it() -> None:
    line = '{"timestamp": "2026-11-25T02:46:42.849343Z", "level": "info", "event": "job.finished"}'
    assert for_people(line).endswith("info    job.finished")
    assert for_people("Started tnfd.\x1b[2J") == "Started tnfd.\\x1b[2J"
