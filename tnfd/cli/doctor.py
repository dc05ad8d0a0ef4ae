"""``tnfd doctor``."""

from __future__ import annotations

import json as jsonlib
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tnfd.cli import terminal
from tnfd.cli.options import EXIT_FAILED, ConfigOption, complain

if TYPE_CHECKING:
    from tnfd.doctor import Finding

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}
_INDENT = 8


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print the schema tnfd.doctor/1.")] = False,
    config: ConfigOption = None,
) -> None:
    """Check what usually goes wrong, and say how to mend it.

    Asks each configured server for its list of models; sends nothing else. Exit code 0: nothing fails; 1:
    something does.

    Example: tnfd doctor
    """
    from tnfd.clock import SystemClock
    from tnfd.doctor import Mark, examine

    _become_the_services_user()
    found: list[Finding] = []
    area = ""
    for finding in examine(config, os.environ, SystemClock()):
        found.append(finding)
        if not json:
            for line in _lines(finding, terminal.columns(), heading=finding.area != area):
                terminal.say(line)
        area = finding.area
    failed = sum(finding.mark is Mark.FAIL for finding in found)
    if json:
        whole = {
            "schema": "tnfd.doctor/1",
            "ok": not failed,
            "findings": [asdict(finding) for finding in found],
        }
        typer.echo(jsonlib.dumps(whole, indent=2))
    else:
        terminal.say()
        terminal.say(_sum(failed, sum(finding.mark is Mark.WARN for finding in found)))
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _become_the_services_user() -> None:
    """Root may do everything, and would find nothing wrong; look at things as the service does."""
    if os.geteuid() != 0:
        return
    from tnfd.doctor.service import service_here

    target = service_here(os.environ)
    owner = target.owner
    if not target.system or owner.uid == 0:
        return
    os.initgroups(owner.name, owner.gid)
    os.setgid(owner.gid)
    os.setuid(owner.uid)
    os.environ.update(HOME=str(owner.home), USER=owner.name, LOGNAME=owner.name)
    complain(f"Looking as {owner.name}, as whom the service runs.")


def _lines(finding: Finding, columns: int, *, heading: bool) -> list[str]:
    from tnfd.rules.columns import wrap

    lines = [terminal.paint(finding.area, "bold")] if heading else []
    mark = terminal.paint(f"{finding.mark:<4}", _STYLES[finding.mark])
    first, *more = wrap(finding.what, columns - _INDENT)
    lines.append(f"  {mark}  {first}")
    lines += [f"{'':{_INDENT}}{line}" for line in more]
    if finding.why:
        lines += [
            f"{'':{_INDENT}}{terminal.paint(line, 'dim')}" for line in wrap(finding.why, columns - _INDENT)
        ]
    if finding.mend:
        lines.append(f"{'':{_INDENT}}-> {finding.mend}")  # never broken: it is there to be copied
    return lines


def _sum(failed: int, warned: int) -> str:
    if not failed and not warned:
        return "Nothing to mend."
    fails = f"{failed} {'thing fails' if failed == 1 else 'things fail'}" if failed else "Nothing fails"
    warns = f"{warned} {'warning' if warned == 1 else 'warnings'}" if warned else "no warnings"
    return f"{fails}, {warns}."
