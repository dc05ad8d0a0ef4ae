"""``tnfd status``."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Any

import typer

from tnfd.cli.options import EXIT_OK, EXIT_UNHEALTHY, ConfigOption, load_or_exit


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(
    json: Annotated[bool, typer.Option("--json", help="Print the schema tnfd.daemon/1.")] = False,
    config: ConfigOption = None,
) -> None:
    """Is it alive, what is it doing, what waits and why, what failed, what was spent.

    Exit code 0: running and healthy; 3: not.

    Example: tnfd status
    """
    from tnfd.clock import SystemClock
    from tnfd.control import Control

    with Control(load_or_exit(config, places=False), SystemClock()) as control:
        found = control.status()
    if json:
        typer.echo(jsonlib.dumps(found, indent=2))
    else:
        for line in lines_of(found):
            typer.echo(line)
    raise typer.Exit(EXIT_OK if found["running"] and found["healthy"] else EXIT_UNHEALTHY)


def lines_of(found: dict[str, Any]) -> list[str]:
    """The status for people."""
    lines = [f"! {line}" for line in found["attention"]]
    if lines:
        lines.append("")
    if found["running"]:
        health = "healthy" if found["healthy"] else "NOT HEALTHY"
        lines.append(f"daemon    {health}, pid {found['pid']}, since {found['since']}")
    else:
        lines.append("daemon    not running")
    workers = found["workers"]
    lines.append(f"workers   {workers['busy']} of {workers['total']} busy")
    for inbox in found["inboxes"]:
        how = f" by {inbox['mode']} ({inbox['why']})" if inbox["mode"] and inbox["state"] != "lost" else ""
        lines.append(f"inbox     {inbox['name']}: {inbox['state']}{how}, {inbox['path']}")
    for engine in found["engines"]:
        until = f" until {engine['until']}" if engine["until"] else ""
        model = f" ({engine['model']})" if engine["model"] else ""
        flight = f", {engine['in_flight']} in flight" if engine["in_flight"] else ""
        lines.append(f"engine    {engine['name']}{model}: {engine['state']}{until}{flight}")
    jobs = ", ".join(f"{number} {state}" for state, number in found["counts"].items() if number)
    lines.append(f"jobs      {jobs or 'none yet'}")
    if found["waiting"]:
        lines.append("waiting   " + ", ".join(f"{number} {why}" for why, number in found["waiting"].items()))
    spent = found["spent"]
    until = f", budget reached until {spent['until']}" if spent["until"] else ""
    lines.append(f"spent     ${spent['today_usd']:.2f} today, ${spent['month_usd']:.2f} this month{until}")
    return lines
