"""The documents say what the code does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer

from docs.make_errors import TARGET, render
from tnfd import __version__
from tnfd.cli import app
from tnfd.config.schema import CONTRACT_FORMATS, FORMATS
from tnfd.errors import CODES
from tnfd.model import JobState, WaitReason

_ROOT = Path(__file__).parents[2]
_DOCUMENTS = sorted(
    path.relative_to(_ROOT).as_posix()
    for path in (*_ROOT.glob("*.md"), *_ROOT.glob("docs/*.md"), *_ROOT.glob("packaging/*/*.md"))
)
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def _text(name: str) -> str:
    return (_ROOT / name).read_text(encoding="utf-8")


def test_error_codes_are_documented_as_they_are() -> None:
    assert TARGET.read_text(encoding="utf-8") == render(), "run: make docs"


def test_every_error_code_has_one_row() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \|", _text("docs/errors.md"), re.MULTILINE)
    assert rows == list(CODES)


@pytest.mark.parametrize("name", _DOCUMENTS)
def test_links_lead_to_files_that_are_there(name: str) -> None:
    base = (_ROOT / name).parent
    links = [found[0] for found in _LINK.findall(_text(name)) if "://" not in found[0]]
    assert [link for link in links if not (base / link).exists()] == []


def test_readme_lists_exactly_the_commands_that_exist() -> None:
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    listed = set(re.findall(r"^\| `tnfd ([a-z]+)", _text("README.md"), re.MULTILINE))
    assert listed == set(command.commands)


def test_readme_names_every_state_and_every_reason_to_wait() -> None:
    readme = _text("README.md")
    assert [word for word in (*JobState, *WaitReason) if f"`{word}`" not in readme] == []


def test_readme_configuration_snippets_are_toml() -> None:
    snippets = re.findall(r"```toml\n(.*?)```", _text("README.md"), re.DOTALL)
    assert snippets
    for snippet in snippets:
        assert tomllib.loads(snippet)


def test_readme_says_which_formats_are_not_there_yet() -> None:
    missing = _text("README.md").partition("## Not there yet")[2].partition("\n## ")[0]
    assert {name for name in CONTRACT_FORMATS if f"`{name}`" in missing} == {*CONTRACT_FORMATS} - {*FORMATS}


def test_architecture_draws_every_room() -> None:
    drawn = _text("docs/architecture.md")
    rooms = {
        path.name
        for path in (_ROOT / "tnfd").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    missing = [room for room in rooms if not room.startswith("__") and room.removesuffix(".py") not in drawn]
    assert missing == []


def test_changelog_begins_with_what_is_not_released_or_with_this_version() -> None:
    first = re.search(r"^## \[(.+?)\]", _text("CHANGELOG.md"), re.MULTILINE)
    assert first is not None
    assert first[1] in ("Unreleased", __version__)
