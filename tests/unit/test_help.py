"""Help texts: the same short flag and options everywhere, and nothing of Python's types in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tnfd.cli import app
from tnfd.cli.questions import engine_choices


def _commands(group: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from _commands(one, (*above, name))
        else:
            yield (*above, name)


COMMANDS = list(_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("command", [(), ("config",), *COMMANDS], ids=" ".join)
def test_h_is_help(command: tuple[str, ...]) -> None:
    short, long = (CliRunner().invoke(app, [*command, flag]) for flag in ("-h", "--help"))
    assert short.exit_code == 0
    assert short.stdout == long.stdout
    assert "-h, --help" in short.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_is_plain_and_names_the_configuration(command: tuple[str, ...]) -> None:
    text = CliRunner().invoke(app, [*command, "--help"]).stdout
    assert "--config FILE" in text
    assert re.findall(r"<[a-z][^>]*>|\{[^}]*\}|\.\.\.\]?\.\.\.", text) == []


def test_init_offers_only_what_there_is() -> None:
    text = CliRunner().invoke(app, ["init", "--help"]).stdout
    *some, last = engine_choices()  # asked for here and not at each start: it takes the whole configuration
    assert f"What transcribes: {', '.join(some)} or {last}." in text
