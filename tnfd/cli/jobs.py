"""``tnfd jobs`` and ``tnfd show``; what other commands share that are about jobs."""

from __future__ import annotations

import json as jsonlib
import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tnfd.cli import terminal
from tnfd.cli.complete import inboxes, states
from tnfd.cli.options import EXIT_FAILED, EXIT_USAGE, ConfigOption, complain, load_or_exit

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tnfd.control import Control
    from tnfd.model import HistoryEntry, Job, MediaInfo

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FilesOrJobs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE|JOB...", show_default=False, help="Files, or jobs' ids or their beginnings."
    ),
]
_SHOWN = 30
_DETAIL = 26  # columns that the last column may take at most while names need the room
_INDENT = 10


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("jobs")(jobs)
    app.command("show")(show)


# -- shared ----------------------------------------------------------------------------------------------


def open_control(config: Path | None) -> Control:
    """The way to the jobs of the configured state folder."""
    from tnfd.clock import SystemClock
    from tnfd.control import Control

    return Control(load_or_exit(config, places=False), SystemClock())


def find_or_exit(control: Control, named: Sequence[str]) -> list[Job]:
    """The newest job of each of these; where one has none, say so for all of them and exit 1."""
    from tnfd.control import Ambiguous, NoSuchJob

    found: dict[str, Job] = {}
    missing = False
    for one in named:
        try:
            job = control.find(one)[0]
            found[job.id] = job
        except (NoSuchJob, Ambiguous) as error:
            complain(f"tnfd: {error}; tnfd jobs lists them")
            missing = True
    if missing:
        raise typer.Exit(EXIT_FAILED)
    return list(found.values())


def name_of(job: Job) -> str:
    """A job's file as people know it: inbox and path below it; outside of all inboxes its whole path."""
    from tnfd.ports.claims import NAMELESS
    from tnfd.rules.names import for_terminal

    if job.inbox != NAMELESS:
        return f"{job.inbox}/{for_terminal(job.source.rel)}"
    home = os.fsencode(os.path.expanduser("~")).rstrip(b"/") + b"/"
    path = job.source.path
    return for_terminal(b"~/" + path[len(home) :] if path.startswith(home) else path)


# -- jobs ------------------------------------------------------------------------------------------------


def _state(name: str | None) -> Any:
    from tnfd.model import JobState

    if name is None:
        return None
    try:
        return JobState(name)
    except ValueError:
        complain(f"tnfd: no such state: {name}; there are {', '.join(JobState)}")
        raise typer.Exit(EXIT_USAGE) from None


def jobs(
    state: Annotated[
        str | None,
        typer.Option(
            "--state", metavar="STATE", autocompletion=states, help="Only this state: done, failed..."
        ),
    ] = None,
    inbox: Annotated[
        str | None,
        typer.Option("--inbox", metavar="NAME", autocompletion=inboxes, help="Only this inbox."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List jobs, newest first.

    All of them with --json, else the latest 30 unless --limit says more.

    Example: tnfd jobs --state failed
    """
    wanted = _state(state)
    with open_control(config) as control:
        most = limit if json or limit else _SHOWN + 1
        found = control.jobs(state=wanted, inbox=inbox, limit=most)
        if json:
            typer.echo(jsonlib.dumps([control.job_object(job) for job in found], indent=2))
            return
        now = control.clock.now()
    if not found:
        terminal.say(_nothing(state, inbox), prose=True)
        return
    shown = found if limit else found[:_SHOWN]
    for line in table(shown, now, terminal.columns()):
        terminal.say(line)
    if len(found) > len(shown):
        terminal.say(terminal.paint(f"... and more: tnfd jobs --limit {10 * _SHOWN}", "dim"))


def _nothing(state: str | None, inbox: str | None) -> str:
    if state is None and inbox is None:
        return "No jobs yet: drop a recording into an inbox while tnfd run is at work, or: tnfd batch FILE"
    which = " and ".join(
        part for part in (f"state {state}" if state else "", f"inbox {inbox}" if inbox else "") if part
    )
    return f"No jobs with {which}."


def table(found: Sequence[Job], now: datetime, columns: int) -> list[str]:
    """Jobs as lines of at most so many columns, below a line of headings."""
    from tnfd.rules.columns import clip, pad, share, shorten, width

    ages = [terminal.age(job.updated_at, now) for job in found]
    names, details = [name_of(job) for job in found], [_detail(job, now) for job in found]
    room = columns - len("  5 min  duplicate    ")
    widest = max(max(map(width, names)), len("FILE"))
    last = max(max(map(width, details)), len("DETAILS"))
    if widest + last > room:
        last = max(min(last, _DETAIL), room - widest)
    (widest,) = share([widest], room - last)
    lines = [terminal.paint(f"{'AGE':>7}  {'STATE':<9}  {pad('FILE', widest)}  DETAILS", "dim")]
    for job, old, name, detail in zip(found, ages, names, details, strict=True):
        state = terminal.paint(f"{job.state:<9}", terminal.state_style(job.state))
        line = f"{old:>7}  {state}  {pad(shorten(name, widest), widest)}  {clip(detail, last)}"
        lines.append(line.rstrip())
    return lines


def _detail(job: Job, now: datetime) -> str:
    """The most telling thing about a job, in a few words."""
    from tnfd.rules.names import for_terminal

    if job.waiting is not None:
        waiting = job.waiting
        left_s = (waiting.until - now).total_seconds() if waiting.until else 0.0
        return f"{waiting.reason}, {terminal.span(left_s)} left" if left_s > 0 else str(waiting.reason)
    if job.error is not None:
        return job.error.code
    if job.state == "running" and job.chunks_total:
        return f"{job.chunks_done} of {job.chunks_total} sent"
    if job.duplicate_of is not None:
        return f"like {for_terminal(job.duplicate_of[1].rpartition(b'/')[2])}"
    said = [terminal.audio(job.media.duration_s)] if job.media and job.media.duration_s else []
    said += [terminal.dollars(job.usage.cost_usd)] if job.usage.cost_usd else []
    said += [f"{len(job.gaps)} {'gap' if len(job.gaps) == 1 else 'gaps'}"] if job.gaps else []
    return ", ".join([*said, *job.flags])


# -- show ------------------------------------------------------------------------------------------------


def show(
    named: Annotated[str, typer.Argument(metavar="FILE|JOB", help="A file's path, or a job's id.")],
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Tell one job's whole story.

    Example: tnfd show ~/Dropbox/Recordings/talk.mp3
    """
    with open_control(config) as control:
        (job,) = find_or_exit(control, [named])
        history = control.history(job)
        found = control.job_object(job)
        now = control.clock.now()
    if json:
        found["history"] = [
            {"at": f"{entry.at:%Y-%m-%dT%H:%M:%SZ}", "event": entry.event, "detail": entry.detail}
            for entry in history
        ]
        typer.echo(jsonlib.dumps(found, indent=2))
        return
    for line in _story(job, history, now):
        terminal.say(line)


def _story(job: Job, history: Sequence[HistoryEntry], now: datetime) -> list[str]:
    from tnfd.rules.counted import counted
    from tnfd.rules.names import for_terminal

    state = terminal.paint(str(job.state), terminal.state_style(job.state))
    rows = [
        ("file", for_terminal(job.source.path)),
        ("job", job.id),
        ("state", state + (f" ({', '.join(job.flags)})" if job.flags else "")),
    ]
    if job.waiting is not None:
        until = f", tried again {terminal.soon(job.waiting.until, now)}" if job.waiting.until else ""
        rows.append(("waits", f"{job.waiting.reason}{until}: {job.waiting.detail}".removesuffix(": ")))
    if job.error is not None:
        rows += [("error", f"{job.error.code}: {job.error.message}"), ("hint", job.error.hint)]
    if job.media is not None:
        rows.append(("media", f"{job.media.container}/{job.media.codec}{_length(job.media, job.flags)}"))
    if job.engine is not None:
        why = f" ({job.engine_why})" if job.engine_why else ""
        rows.append(("engine", f"{job.engine.name} {job.engine.model}".rstrip() + why))
    if job.duplicate_of is not None:
        rows.append(("same as", for_terminal(job.duplicate_of[1])))
    if job.moved_to is not None:
        rows.append(("moved to", for_terminal(job.moved_to)))
    rows += [("output", for_terminal(output.name)) for output in job.outputs]
    if job.usage.requests:
        usage = job.usage
        sent = counted(usage.requests, "request", "requests")
        rows.append(("used", f"{usage.audio_s:.1f} s in {sent}, ${usage.cost_usd:.4f}"))
    lines = [line for label, text in rows for line in _below(label, text, _INDENT)]
    lines.append("")
    for entry in history:
        head = f"{terminal.local(entry.at)}  {entry.event:<9} "
        lines += _below(head, entry.detail, len(head))
    return lines


def _below(label: str, text: str, indent: int) -> list[str]:
    """A label and a text beside it; what does not fit into the screen goes below. Names stay whole."""
    from tnfd.rules.columns import fold

    label = f"{label:<{indent}}"
    return [
        f"{' ' * indent if number else label}{line}".rstrip()
        for number, line in enumerate(fold(text, terminal.columns() - indent))
    ]


def _length(media: MediaInfo, flags: Collection[str]) -> str:
    """How long it is; both lengths where the header promises more than there is."""
    if "truncated_media" in flags and media.duration_s and media.decoded_s is not None:
        return f", {media.decoded_s:.1f} s of the {media.duration_s:.1f} s that its header promises"
    length_s = media.duration_s or media.decoded_s
    return f", {length_s:.1f} s" if length_s else ""
