"""Keeps short commands short: parameters that nobody has set are not handed over to typer's converters.

Typer converts with pydantic, whose import takes a third of the time of ``tnfd status`` (0.09 of 0.24 s of a
core, typer 0.29), and does so for None as well. Here None stays None, as it would there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_PLAIN = {"config": Path}  # parameters of which any text will do


def lighten(command: Any) -> None:
    """Do so for a command and, where it is a group, for all below it."""
    typers_own = command.get_params

    def get_params(ctx: Any) -> list[Any]:
        params: list[Any] = typers_own(ctx)  # with those of completion and help, which are made late
        for param in params:
            if "process_value" not in vars(param):
                param.process_value = _processor(param, param.process_value)
        return params

    command.get_params = get_params
    for inner in getattr(command, "commands", {}).values():
        lighten(inner)


def _processor(param: Any, typers_own: Any) -> Any:
    def process(ctx: Any, value: Any) -> Any:
        if value is None and not param.required:
            value = () if param.multiple or param.nargs == -1 else None
        elif param.name in _PLAIN and isinstance(value, str):
            value = _PLAIN[param.name](value)
        else:
            return typers_own(ctx, value)
        return value if param.callback is None else param.callback(ctx, param, value)

    return process
