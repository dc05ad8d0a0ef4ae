"""Keeps help texts plain: arguments are shown by their metavar alone, without typer's types and braces."""

from __future__ import annotations

from typing import Any


def plain(command: Any) -> None:
    """Do so for a command and, where it is a group, for all below it."""
    for param in command.params:
        if param.param_type_name == "argument" and param.metavar:
            usage = param.metavar if param.required else f"[{param.metavar}]"
            param.display_type_rich = _always("")  # typer 0.29: "FILE <str>"
            param.get_usage_pieces = _always([usage])
    for inner in getattr(command, "commands", {}).values():
        plain(inner)


def _always(answer: object) -> Any:
    return lambda *_args, **_named: answer
