"""Every command's help: short enough for the list, with an example that names the command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from tnfd.cli import app


def commands(group: Any, name: str = "tnfd") -> Iterator[tuple[str, Any]]:
    for word, command in group.commands.items():
        whole = f"{name} {word}"
        if hasattr(command, "commands"):
            yield from commands(command, whole)
        else:
            yield whole, command


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", ALL)
def test_help_has_an_example_that_can_be_typed(name: str) -> None:
    examples = re.findall(r"^Example: (.*)$", ALL[name].help, re.MULTILINE)
    assert len(examples) == 1
    assert examples[0].startswith(name)
    options = set(re.findall(r"(?<!\S)--[a-z-]+", examples[0]))
    known = {option for param in ALL[name].params for option in param.opts}
    assert options <= known


@pytest.mark.parametrize("name", ALL)
def test_the_first_sentence_fits_beside_the_name_in_80_columns(name: str) -> None:
    first = ALL[name].help.partition("\n\n")[0]
    assert first.endswith(".")
    assert "\n" not in first
    assert len("  ") + len("status  ") + len(first) < 80


@pytest.mark.parametrize("name", ALL)
def test_every_option_is_explained(name: str) -> None:
    assert [param.name for param in ALL[name].params if not param.help] == []


def test_config_is_an_option_of_every_command() -> None:
    without = [name for name, command in ALL.items() if all(p.name != "config" for p in command.params)]
    assert without in ([], ["tnfd demo"])  # the demo brings its own
