"""What an engine needs: found or not, and what installs it."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

from tnfd.libraries import install_command, is_installed, library_of
from tnfd.rules.counted import counted

_ROOT = Path(__file__).parents[2]


def test_the_library_goes_into_the_python_that_runs_tnfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/my tools/bin/python")
    words = shlex.split(install_command("sphinx"))
    assert "/opt/my tools/bin/python" in words
    assert words[-1] == "pocketsphinx"


def test_an_environment_without_pip_is_uv_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert install_command("sphinx").startswith("uv pip install --python ")


def test_what_needs_no_library_is_always_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    assert (is_installed("openai"), library_of("openai")) == (True, "")
    assert (is_installed("sphinx"), library_of("sphinx")) == (False, "pocketsphinx")


def test_nobody_is_told_to_install_tnfd_by_its_name() -> None:
    """It is not on PyPI: whatever has that name there is somebody else's."""
    texts = (
        *_ROOT.glob("*.md"),
        *_ROOT.glob("docs/*.md"),
        *_ROOT.glob("packaging/**/*"),
        *_ROOT.glob("tnfd/**/*.py"),
    )
    by_name = re.compile(
        r"\b(pip|pipx|uv( tool| pip)?) install\b[^\n]*\btnfd(?![\w/.-])(\[|'|\"|`|\s|$)|tnfd\["
    )
    found = [
        f"{path.name}: {line.strip()}"
        for path in texts
        if path.is_file()
        for line in path.read_text(encoding="utf-8").splitlines()
        if by_name.search(line) and "/bin/tnfd" not in line
    ]
    assert found == []


@pytest.mark.parametrize(("number", "said"), [(0, "0 files"), (1, "1 file"), (2, "2 files")])
def test_a_number_and_its_noun_agree(number: int, said: str) -> None:
    assert counted(number, "file", "files") == said
