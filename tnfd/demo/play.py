"""The demo: drops a bundled recording into a temporary inbox of the real daemon and prints what comes of it.

Owns a temporary folder and one child process, and leaves neither behind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import tomli_w

from tnfd.demo import sample
from tnfd.libraries import install_command, is_installed, library_of
from tnfd.rules.columns import wrap

_PATIENCE_S = 120.0
_PIECES = 8
_INDENT = 4
_EVENT = 16  # columns of an event's name
_HIDDEN = frozenset({"event", "level", "timestamp", "job", "path", "state_dir"})  # noise in a demo


class DemoFailed(Exception):
    """The demo did not come to its end; the message says why."""


class _Log(threading.Thread):
    """Reads the daemon's log lines, shows each, and wakes whoever waits for an event."""

    def __init__(self, stream: IO[str], show: Callable[[str, int], None]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._show = show
        self._events: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._ended = False

    def run(self) -> None:
        for line in self._stream:
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": line.rstrip()}
            pairs = " ".join(
                f"{key}={value}" for key, value in event.items() if key not in _HIDDEN and value is not None
            )
            self._show(f"{event['event']:<{_EVENT}}{pairs}", _EVENT)
            with self._news:
                self._events.append(event)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for(self, *names: str) -> dict[str, Any]:
        """The first event with one of these names.

        Raises:
            DemoFailed: the daemon ended before, or it took too long.
        """

        def found() -> list[dict[str, Any]]:
            return [event for event in self._events if event["event"] in names]

        with self._news:
            self._news.wait_for(lambda: found() or self._ended, timeout=_PATIENCE_S)
            if not found():
                what = "ended" if self._ended else f"said nothing of it for {_PATIENCE_S:.0f} s"
                raise DemoFailed(f"waited for {' or '.join(names)}, but the daemon {what}")
            return found()[0]


class _Screen:
    """Says what happens, a line at a time, none wider than ``columns``."""

    def __init__(self, say: Callable[[str], None], columns: int) -> None:
        self.say = say
        self._columns = columns

    def show(self, line: str, hang: int = 0) -> None:
        """Say an indented line; what does not fit goes below, ``hang`` columns further in."""
        head, text = line[:hang], line[hang:]
        for piece in wrap(text, self._columns - _INDENT - hang):
            self.say(f"{'':{_INDENT}}{head:<{hang}}{piece}".rstrip())
            head = ""


def play(say: Callable[[str], None], columns: int = 80) -> None:
    """Run the demo, telling each step with ``say``, in lines of so many columns.

    Raises:
        DemoFailed: it did not work, and why.
    """
    if not is_installed("sphinx"):
        raise DemoFailed(f"the demo needs {library_of('sphinx')}; run: {install_command('sphinx')}")
    with tempfile.TemporaryDirectory(prefix="tnfd-demo-") as folder:
        _play(Path(folder), _Screen(say, columns))


def _play(folder: Path, screen: _Screen) -> None:
    inbox, config = folder / "inbox", folder / "config.toml"
    inbox.mkdir()
    config.write_text(
        tomli_w.dumps(
            {
                "daemon": {"state_dir": str(folder / "state"), "log_format": "json"},
                "inbox": [{"path": str(inbox), "settle_s": 1.0, "formats": ["txt", "json"]}],
                "engines": {"sphinx": {"type": "sphinx"}},
            }
        )
    )
    screen.say("1. The daemon starts and watches an empty inbox:")
    environ = {key: value for key, value in os.environ.items() if not key.startswith("TNFD_")}
    with subprocess.Popen(
        [sys.executable, "-m", "tnfd", "run", "--config", str(config)],
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    ) as daemon:
        if daemon.stderr is None:
            raise DemoFailed("the daemon has no log")
        log = _Log(daemon.stderr, screen.show)
        log.start()
        try:
            log.wait_for("daemon.ready")
            with sample() as recording:
                target = inbox / f"hello{recording.suffix}"
                screen.say("\n2. A recording is copied in slowly; it is taken only once it is whole:")
                _copy_slowly(recording, target, daemon)
            log.wait_for("job.finished", "job.failed")
            _wait_for_status(target, daemon)
        finally:
            daemon.send_signal(signal.SIGTERM)
            try:
                code = daemon.wait(timeout=30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                code = daemon.wait()
            log.join(timeout=5)
    _show(inbox, target, screen)
    if code != 0:
        raise DemoFailed(f"the daemon stopped with exit code {code}")
    screen.say("\nThat is all. To watch a folder of your own, run: tnfd init")


def _copy_slowly(recording: Path, target: Path, daemon: subprocess.Popen[str]) -> None:
    data = recording.read_bytes()
    size = len(data) // _PIECES + 1
    with target.open("wb") as copy:
        for start in range(0, len(data), size):
            copy.write(data[start : start + size])
            copy.flush()
            if _ended_within(daemon, 0.15):
                raise DemoFailed("the daemon ended while the recording was being copied")


def _wait_for_status(target: Path, daemon: subprocess.Popen[str]) -> None:
    status = target.with_name(target.name + ".status.json")
    for _ in range(100):
        if status.exists() or _ended_within(daemon, 0.1):
            return


def _ended_within(daemon: subprocess.Popen[str], span_s: float) -> bool:
    try:
        daemon.wait(timeout=span_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _show(inbox: Path, target: Path, screen: _Screen) -> None:
    """The transcript comes last: it is what stays in sight."""
    status = target.with_name(target.name + ".status.json")
    transcript = target.with_suffix(".txt")
    if not transcript.exists():
        state = status.read_text(encoding="utf-8") if status.exists() else "no status file"
        raise DemoFailed(f"there is no transcript: {state}")
    screen.say(f"\n3. {status.name}, what happened, for people and programs (a key a line):")
    for key, value in json.loads(status.read_bytes()).items():
        screen.show(f'"{key}": {json.dumps(value)}', hang=2)
    screen.say("\n4. What lies in the inbox now:")
    for entry in sorted(inbox.iterdir()):
        screen.show(f"{entry.name:<28}{entry.stat().st_size:>7} bytes", hang=36)
    screen.say(f"\n5. {transcript.name}, the transcript (embedded engine: English, draft quality):\n")
    for line in transcript.read_text(encoding="utf-8").splitlines():
        screen.show(line)
