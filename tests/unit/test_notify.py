"""sd_notify: what goes over the socket, and that nothing waits or fails where nobody listens."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tnfd.notify import Notifier


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.setblocking(False)
        yield line


def heard(listener: socket.socket) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in listener.recv(4096).decode().splitlines())


def test_states_go_out_in_one_message(listener: socket.socket) -> None:
    Notifier(listener.getsockname(), None).send(READY=1, STATUS="two\nlines")
    assert heard(listener) == {"READY": "1", "STATUS": "two lines"}


def test_reloading_carries_the_moment(listener: socket.socket) -> None:
    Notifier(listener.getsockname(), None).reloading()
    found = heard(listener)
    assert found["RELOADING"] == "1"
    assert int(found["MONOTONIC_USEC"]) > 0


def test_a_name_in_the_abstract_namespace() -> None:
    name = f"tnfd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.setblocking(False)
        Notifier(f"@{name}", None).send(WATCHDOG=1)
        assert heard(listener) == {"WATCHDOG": "1"}


def test_nobody_listens(tmp_path: Path) -> None:
    quiet = Notifier.from_environ({})
    assert not quiet.heard
    quiet.send(READY=1)
    Notifier(str(tmp_path / "gone"), None).send(READY=1)


def test_a_listener_that_reads_nothing_is_not_waited_for(listener: socket.socket) -> None:
    notifier = Notifier(listener.getsockname(), None)
    for _ in range(2000):  # more than any queue holds
        notifier.send(STATUS="x" * 500)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),  # meant for another process
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_or_not(environ: dict[str, str], expected: float | None) -> None:
    assert Notifier.from_environ(environ).watchdog_s == expected
