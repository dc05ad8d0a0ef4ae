"""``tnfd doctor`` on real folders, databases and servers."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Site
from tnfd.clock import SystemClock
from tnfd.doctor import Finding, Mark, examine
from tnfd.doctor.server import Reply, fetch
from tnfd.testing import FakeClock
from tnfd.testing.api_server import ApiServer

CONFIG = """
[daemon]
state_dir = "{state}"
[[inbox]]
path = "{inbox}"
{more}
"""


class Patient:
    """A user's folders and configuration, engine-less: what an engine says is told elsewhere."""

    def __init__(self, base: Path) -> None:
        self.inbox, self.state, self.file = base / "in", base / "state", base / "tnfd.toml"
        self.inbox.mkdir()
        self.write()

    def write(self, more: str = "") -> None:
        self.file.write_text(CONFIG.format(state=self.state, inbox=self.inbox, more=more))

    def examined(self, clock: Any = None) -> list[Finding]:
        return list(examine(self.file, {}, clock or SystemClock()))

    def of(self, area: str, clock: Any = None) -> dict[str, Finding]:
        return {finding.what: finding for finding in self.examined(clock) if finding.area == area}


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)


def failing(findings: dict[str, Finding]) -> list[Finding]:
    return [finding for finding in findings.values() if finding.mark is Mark.FAIL]


def test_before_the_first_start_nothing_fails_and_nothing_is_made(patient: Patient) -> None:
    findings = patient.examined()
    assert [finding for finding in findings if finding.mark is Mark.FAIL] == []
    assert {finding.what for finding in findings if finding.mark is Mark.WARN} >= {"not running"}
    assert not patient.state.exists()
    assert os.listdir(patient.inbox) == []


def test_every_trouble_says_why_and_what_mends_it(patient: Patient) -> None:
    patient.inbox.rmdir()
    troubles = [finding for finding in patient.examined() if finding.mark is not Mark.OK]
    assert len(troubles) >= 3
    for finding in troubles:
        assert finding.why, finding
        assert finding.mend, finding


def test_all_mistakes_of_a_configuration_are_told(patient: Patient) -> None:
    patient.write("colour = 3\nsettle_s = 'long'")
    findings = patient.of("configuration")
    assert len(failing(findings)) == 2
    assert any("colour" in what for what in findings)


def test_a_missing_inbox_fails(patient: Patient) -> None:
    patient.inbox.rmdir()
    (finding,) = failing(patient.of("inbox in"))
    assert "is not there" in finding.what
    assert finding.mend.startswith(f"mkdir -p {patient.inbox}")


def test_a_file_in_the_place_of_an_inbox_fails(patient: Patient) -> None:
    patient.inbox.rmdir()
    patient.inbox.write_text("")
    (finding,) = failing(patient.of("inbox in"))
    assert "is not a folder" in finding.what


def test_outputs_that_have_no_place_fail(patient: Patient) -> None:
    patient.write('output_dir = "/proc/tnfd"')  # where nobody can write, whoever runs the tests
    (finding,) = failing(patient.of("inbox in"))
    assert "cannot be written to" in finding.what


def test_an_output_folder_to_come_is_looked_for_above(patient: Patient) -> None:
    patient.write('output_dir = "deep/below/it"')
    assert f"{patient.inbox / 'deep/below/it'} can be made" in patient.of("inbox in")
    assert os.listdir(patient.inbox) == []


def test_the_way_of_watching_and_its_reason_are_told(patient: Patient) -> None:
    patient.write('watch = "scan"')
    assert any(what.startswith("watched by scan on") and what.endswith(": configured")
               for what in patient.of("inbox in"))  # fmt: skip


def test_a_state_folder_that_others_may_see_is_warned_of(patient: Patient) -> None:
    patient.state.mkdir()
    patient.state.chmod(0o755)
    (finding,) = (one for one in patient.of("state folder").values() if one.mark is Mark.WARN)
    assert "0755" in finding.what
    assert finding.mend == f"chmod 700 {patient.state}"


def test_a_database_that_is_none_fails(patient: Patient) -> None:
    patient.state.mkdir(mode=0o700)
    (patient.state / "tnfd.sqlite3").write_text("this is no database at all, but a long enough text")
    (finding,) = failing(patient.of("state folder"))
    assert "cannot be used" in finding.what


def test_a_state_folder_inside_an_inbox_fails(patient: Patient) -> None:
    patient.state = patient.inbox / "state"
    patient.write()
    assert len(failing(patient.of("configuration"))) == 1


def test_a_clock_that_was_never_set_fails(patient: Patient) -> None:
    clock = FakeClock(datetime(2000, 1, 1, tzinfo=UTC))
    assert len(failing(patient.of("clock", clock))) == 1
    assert failing(patient.of("clock")) == []


async def test_a_running_daemon_and_its_engine_are_well(tmp_path: Path) -> None:
    async with ApiServer() as server:
        site = Site(tmp_path, server.url)
        site.configure(engine={"model": "gpt-transcribe"})
        async with site.daemon() as daemon:
            ran = await site.tnfd("doctor", "--json")
            assert ran.code == 0, ran.out
            assert ran.json["schema"] == "tnfd.doctor/1"
            assert ran.json["ok"]
            assert {finding["mark"] for finding in ran.json["findings"]} == {"ok"}, ran.out
            assert {
                "area": "daemon",
                "mark": "ok",
                "what": f"running (pid {daemon.pid})",
                "why": "",
                "mend": "",
            } in (ran.json["findings"])
            said = await site.tnfd("doctor")
            assert said.out.rstrip().endswith("Nothing to mend.")
            assert (await site.tnfd("pause")).code == 0
            paused = await site.tnfd("doctor")
            assert paused.code == 0
            assert "tnfd resume" in paused.out
        assert server.requests == []  # no audio
        site.configure(engine={"model": "gpt-transcribe", "api_key_env": "NO_SUCH_KEY"})
        failed = await site.tnfd("doctor")
        assert failed.code == 1
        assert "1 thing fails" in failed.out


# -- asking a server ---------------------------------------------------------------------------------------


@pytest.fixture
def told() -> Iterator[Any]:
    """A server that gives one answer to one request; what it was sent is in ``heard``."""
    import threading

    class Told:
        def __init__(self) -> None:
            self.listening = socket.create_server(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/v1/models"
            self.heard = b""

        def answer(self, data: bytes) -> None:
            def run() -> None:
                caller, _ = self.listening.accept()
                with caller:
                    while b"\r\n\r\n" not in self.heard:
                        self.heard += caller.recv(4096)
                    caller.sendall(data)

            self.thread = threading.Thread(target=run)
            self.thread.start()

    server = Told()
    yield server
    server.thread.join(10)
    server.listening.close()


def http_answer(status: str, body: bytes, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def test_the_list_is_read_and_the_key_goes_in_a_header(told: Any) -> None:
    told.answer(http_answer("200 OK", json.dumps({"data": [{"id": "a"}, {"id": "b"}]}).encode()))
    assert fetch(told.url, "sk-test", 5, False) == Reply(200, models=("a", "b"))
    assert told.heard.startswith(b"GET /v1/models ")
    assert b"Authorization: Bearer sk-test\r\n" in told.heard


def test_without_a_key_no_header_is_sent(told: Any) -> None:
    told.answer(http_answer("200 OK", b"<html>"))
    assert fetch(told.url, None, 5, False) == Reply(200, models=None)
    assert b"Authorization" not in told.heard


def test_a_redirect_is_not_followed(told: Any) -> None:
    told.answer(http_answer("307 Temporary Redirect", b"", "Location: http://127.0.0.1:1/elsewhere"))
    assert fetch(told.url, "sk-test", 5, False).status == 307


def test_a_refusal_is_a_status(told: Any) -> None:
    told.answer(http_answer("401 Unauthorized", b'{"error": {}}'))
    assert fetch(told.url, "sk-test", 5, False) == Reply(401)


def test_nonsense_is_no_answer(told: Any) -> None:
    told.answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    reply = fetch(told.url, None, 5, False)
    assert (reply.status, reply.models) == (0, None)
    assert reply.reason


def test_nobody_there_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    reply = fetch(f"http://127.0.0.1:{port}/v1/models", None, 5, False)
    assert (reply.status, reply.reason) == (0, "Connection refused")


def test_a_newer_database_is_told_and_left_alone(patient: Patient) -> None:
    patient.state.mkdir(mode=0o700)
    with sqlite3.connect(patient.state / "tnfd.sqlite3") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    (finding,) = failing(patient.of("state folder"))
    assert "newer" in finding.what
