"""The table of errors, and how errors read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tnfd.errors import (
    _TABLE,
    CODES,
    LOST,
    AlreadyRunning,
    Code,
    ConfigError,
    Fault,
    Problem,
    SourceChanged,
    SourceVanished,
    TnfdError,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"
ROWS = pytest.mark.parametrize("row", CODES.values(), ids=lambda row: row.code)


def test_no_code_stands_twice() -> None:
    assert len(CODES) == len(_TABLE)


@ROWS
def test_code_is_dotted_and_lower_case(row: Code) -> None:
    assert re.fullmatch(r"[a-z]+(\.[a-z]+(_[a-z]+)*)", row.code)


@ROWS
def test_message_and_hint_are_sentences(row: Code) -> None:
    assert re.fullmatch(r"[A-Za-z].*[.]", row.message)
    assert re.fullmatch(r"[A-Z].*(\.|tnfd [a-z]+( [A-Z]+)?)", row.hint)


@ROWS
def test_code_is_documented(row: Code) -> None:
    assert f"`{row.code}`" in DOCUMENT.read_text(encoding="utf-8")


@ROWS
def test_fault_carries_its_row(row: Code) -> None:
    fault = Fault(row.code)
    assert isinstance(fault, TnfdError)
    assert (fault.code, fault.fate, fault.message, fault.hint) == (row.code, row.fate, row.message, row.hint)
    assert str(fault) == f"{row.code}: {row.message}"
    assert fault.retryable is (row.fate not in LOST or row.code == "source.unreadable")


def test_detail_and_hint_of_the_moment() -> None:
    fault = Fault(
        "output.io", "Input/output error", hint="Look at dmesg.", retry_after_s=3.0, maybe_paid=True
    )
    assert fault.message == "Writing an output failed. (Input/output error)"
    assert (fault.hint, fault.retry_after_s, fault.maybe_paid) == ("Look at dmesg.", 3.0, True)


def test_unknown_code_is_a_bug() -> None:
    with pytest.raises(KeyError):
        Fault("engine.nonsense")


def test_source_s_two_ends() -> None:
    assert SourceChanged().code == "source.changed"
    assert SourceVanished("gone").detail == "gone"


def test_configuration_s_problems_are_told_together() -> None:
    problems = [
        Problem("/etc/tnfd/config.toml", 7, "daemon.workers", "expected a number"),
        Problem("environment", None, "TNFD_X", "unknown"),
        Problem("command line", None, "", "no inbox"),
    ]
    assert str(ConfigError(problems)).splitlines() == [
        "/etc/tnfd/config.toml:7: daemon.workers: expected a number",
        "environment: TNFD_X: unknown",
        "command line: no inbox",
    ]


def test_already_running_names_the_process() -> None:
    assert str(AlreadyRunning(Path("/state"), 17)) == "process 17 already runs tnfd on /state"
    assert str(AlreadyRunning(Path("/state"), None)) == "another process already runs tnfd on /state"
