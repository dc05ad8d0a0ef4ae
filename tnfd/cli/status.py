"""``tnfd status``."""

from __future__ import annotations

import json as jsonlib
import os
import select
import shutil
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tnfd.cli import terminal
from tnfd.cli.jobs import name_of
from tnfd.cli.options import EXIT_OK, EXIT_UNHEALTHY, ConfigOption, leave_with_problems

if TYPE_CHECKING:
    from pathlib import Path

    from tnfd.config import Config
    from tnfd.errors import Problem
    from tnfd.model import Job
    from tnfd.ports.clock import Clock

_INDENT = 10
_EVERY_S = 1.0
_RUNNING_SHOWN = 5
_STYLES = {
    "ok": "green",
    "throttled": "yellow",
    "paused": "red",
    "watching": "green",
    "scanning": "cyan",
    "lost": "red",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(
    json: Annotated[bool, typer.Option("--json", help="Print the schema tnfd.daemon/1.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Again every second, until Ctrl-C; with --json an object a line.")
    ] = False,
    spent: Annotated[
        bool, typer.Option("--spent", help="What this month cost, by day, engine and inbox; nothing else.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Say whether it lives, what it does, what waits and why.

    Exit code 0: running and healthy; 3: not.

    Example: tnfd status --watch
    """
    from tnfd.clock import SystemClock

    loaded, problems = _load(config)
    clock = SystemClock()
    code, drawn = EXIT_OK, 0
    stop = _told_to_stop() if watch else None
    try:
        while True:
            found, running = _look(loaded, clock)
            _tell_mistakes(found, problems)
            code = EXIT_OK if found["running"] and found["healthy"] else EXIT_UNHEALTHY
            if json:
                found = found["spent"] if spent else found
                typer.echo(jsonlib.dumps(found, indent=None if watch else 2))
            else:
                lines = lines_of(found, running, clock, terminal.columns()) if not spent else _books(found)
                drawn = _draw(lines, drawn, watch=watch)
            sys.stdout.flush()
            if stop is None or select.select([stop], (), (), _EVERY_S)[0]:
                break
    except KeyboardInterrupt:
        pass
    if stop is not None and not json:
        typer.echo()  # the shell's prompt begins on a line of its own
    raise typer.Exit(code)


def _load(path: Path | None) -> tuple[Config, tuple[Problem, ...]]:
    """The configuration, and what is wrong with it: a daemon may still run under what it was before."""
    from tnfd.config import load_leniently
    from tnfd.errors import ConfigError

    try:
        return load_leniently(path, os.environ)
    except ConfigError as error:
        leave_with_problems(error)


def _tell_mistakes(found: dict[str, Any], problems: Sequence[Problem]) -> None:
    from tnfd.errors import ConfigError

    if not problems:
        return
    if not found["running"]:
        leave_with_problems(ConfigError(problems))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    said = f"the configuration has mistakes, and a restart would end with them: {problems[0]}{more}"
    if not any("refused" in one for one in found["attention"]):
        found["attention"].insert(0, said)


def _told_to_stop() -> int:
    """Give a descriptor that becomes readable at Ctrl-C.

    KeyboardInterrupt may be raised anywhere, and where the interpreter cannot pass it on (a finalizer, a
    callback) it is lost: the screen would be drawn for ever.
    """
    told, tell = os.pipe()
    signal.signal(signal.SIGINT, lambda *_: os.write(tell, b"."))
    return told


def _look(config: Config, clock: Clock) -> tuple[dict[str, Any], list[Job]]:
    from tnfd.control import Control
    from tnfd.model import JobState

    with Control(config, clock) as control:
        return control.status(), control.jobs(state=JobState.RUNNING, limit=_RUNNING_SHOWN + 1)


def _draw(lines: list[str], drawn: int, *, watch: bool) -> int:
    """Print; when watching at a terminal, over what was drawn before. Returns the lines drawn."""
    if not watch or not sys.stdout.isatty():
        for line in lines:
            terminal.say(line)
        if watch:
            terminal.say()
        return 0
    rows = max(2, shutil.get_terminal_size().lines - 1)
    if len(lines) > rows:
        lines = [*lines[: rows - 1], "..."]
    # Up to where the last one began; each line erases what is left of its predecessor, the last the rest.
    up = f"\x1b[{drawn}A\r" if drawn else ""
    typer.echo(up + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J", nl=False, color=True)
    return len(lines)


def lines_of(found: dict[str, Any], running: Sequence[Job], clock: Clock, columns: int) -> list[str]:
    """The status for people, in lines of at most so many columns."""
    from tnfd.rules.columns import wrap

    lines = []
    for said in found["attention"]:
        first, *more = wrap(said, columns - 2)
        lines += [
            terminal.paint(f"! {first}", "yellow"),
            *(terminal.paint(f"  {one}", "yellow") for one in more),
        ]
    if lines:
        lines.append("")
    for label, text, state in _rows(found, running, clock, columns):
        style = _STYLES.get(state, "")
        for number, line in enumerate(wrap(text, columns - _INDENT)):
            word = f": {state}"
            painted = line.replace(word, f": {terminal.paint(state, style)}", 1) if state else line
            lines.append(f"{'' if number else label:<{_INDENT}}{painted}".rstrip())
    return lines


def _rows(
    found: dict[str, Any], running: Sequence[Job], clock: Clock, columns: int
) -> list[tuple[str, str, str]]:
    """Label, text, and the state in it that is shown in colour."""
    from tnfd.rules.columns import shorten

    room = columns - _INDENT
    rows = [_daemon(found, clock)]
    rows.append(("workers", f"{found['workers']['busy']} of {found['workers']['total']} busy", ""))
    for inbox in found["inboxes"]:
        how = f" by {inbox['mode']} ({inbox['why']})" if inbox["mode"] and inbox["state"] != "lost" else ""
        far = ""
        if inbox["state"] == "scanning" and inbox.get("walked"):
            far = f", {inbox['walked']} files so far, {inbox['pending']} of them in work"
        rows.append(("inbox", f"{inbox['name']}: {inbox['state']}{how}{far}", inbox["state"]))
        rows.append(("", shorten(inbox["path"].replace(" ", "\u00a0"), room), ""))
    for engine in found["engines"]:
        until = f", tried again {_soon(engine['until'], clock)}" if engine["until"] else ""
        model = f" ({engine['model']})" if engine["model"] else ""
        flight = f", {engine['in_flight']} in flight" if engine["in_flight"] else ""
        doing = f", {engine['doing']}" if engine["doing"] else ""
        if engine["max_in_flight"] is not None:
            flight += f", at most {engine['max_in_flight']} at once for now"
        rate = (
            f", {engine['requests_per_minute']:g} requests a minute" if engine["requests_per_minute"] else ""
        )
        text = f"{engine['name']}{model}: {engine['state']}{flight}{rate}{until}{doing}"
        rows.append(("engine", text, engine["state"]))
    if not found["engines"]:
        rows.append(("engine", "none is configured: tnfd init --engine NAME", ""))
    counts = ", ".join(f"{number} {state}" for state, number in found["counts"].items() if number)
    rows.append(("jobs", counts or "none yet", ""))
    if found["waiting"]:
        rows.append(("waiting", ", ".join(f"{number} {why}" for why, number in found["waiting"].items()), ""))
    rows += _running(running, clock, room)
    spent = found["spent"]
    until = f"; the budget is reached, renewed {_soon(spent['until'], clock)}" if spent["until"] else ""
    money = f"${spent['today_usd']:.2f} today, ${spent['month_usd']:.2f} this month"
    rows.append(("spent", f"{money}{until}", ""))
    return rows


def _books(found: dict[str, Any]) -> list[str]:
    """What was spent, as a table."""
    spent = found["spent"]
    total = f"${spent['today_usd']:.2f} today, ${spent['month_usd']:.2f} this month"
    rows = [("day", "engine", "inbox", "requests", "audio", "spent")]
    for row in spent["by_day"]:
        audio = f"{row['audio_s'] / 60:.1f} min"
        inbox = row["inbox"] or "-"
        rows.append((row["day"], row["engine"], inbox, str(row["requests"]), audio, f"${row['usd']:.4f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    table = [
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [*(table if len(rows) > 1 else []), f"{total} (what is in flight is set aside, and counted)"]


def _daemon(found: dict[str, Any], clock: Clock) -> tuple[str, str, str]:
    if not found["running"]:
        return "daemon", "not running", ""
    since = ""
    if found["since"]:
        from datetime import datetime

        since = f", up for {terminal.age(datetime.fromisoformat(found['since']), clock.now())}"
    return "daemon", f"{'healthy' if found['healthy'] else 'NOT HEALTHY'}, pid {found['pid']}{since}", ""


def _soon(moment: str, clock: Clock) -> str:
    from datetime import datetime

    return terminal.soon(datetime.fromisoformat(moment), clock.now())


def _running(running: Sequence[Job], clock: Clock, room: int) -> list[tuple[str, str, str]]:
    from tnfd.rules.columns import shorten, width

    rows = []
    for number, job in enumerate(running[:_RUNNING_SHOWN]):
        age = terminal.age(job.started_at or job.updated_at, clock.now())
        done = f"{job.chunks_done} of {job.chunks_total} sent, " if job.chunks_total > 1 else ""
        name = shorten(name_of(job), room - width(f"  {done}{age}"))
        rows.append(("" if number else "working", f"{name.replace(' ', chr(0xA0))}  {done}{age}", ""))
    if len(running) > _RUNNING_SHOWN:
        rows.append(("", "... and more: tnfd jobs --state running", ""))
    return rows
