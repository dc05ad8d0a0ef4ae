"""``tnfd jobs``, ``tnfd show``, ``tnfd retry``."""

from __future__ import annotations

import json as jsonlib
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tnfd.cli.options import EXIT_FAILED, EXIT_USAGE, ConfigOption, complain, load_or_exit

if TYPE_CHECKING:
    from tnfd.control import Control
    from tnfd.model import Job

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_SHOWN = 30


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("jobs")(jobs)
    app.command("show")(show)
    app.command("retry")(retry)


def _control(config: Any) -> Control:
    from tnfd.clock import SystemClock
    from tnfd.control import Control

    return Control(load_or_exit(config, places=False), SystemClock())


def _state(name: str | None) -> Any:
    from tnfd.model import JobState

    if name is None:
        return None
    try:
        return JobState(name)
    except ValueError:
        complain(f"no such state: {name}; there are {', '.join(JobState)}")
        raise typer.Exit(EXIT_USAGE) from None


def jobs(
    state: Annotated[str | None, typer.Option("--state", metavar="STATE", help="Only this state.")] = None,
    inbox: Annotated[str | None, typer.Option("--inbox", metavar="NAME", help="Only this inbox.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List jobs, newest first (all of them with --json, else the latest 30 unless --limit says more).

    Example: tnfd jobs --state failed
    """
    from tnfd.control import age

    with _control(config) as control:
        most = limit if json or limit else _SHOWN + 1
        found = control.jobs(state=_state(state), inbox=inbox, limit=most)
        if json:
            typer.echo(jsonlib.dumps([control.job_object(job) for job in found], indent=2))
            return
    if not found:
        typer.echo("no jobs yet" if state is None and inbox is None else "no such jobs")
        return
    from tnfd.clock import SystemClock

    now = SystemClock().now()
    shown = found if limit else found[:_SHOWN]
    for job in shown:
        typer.echo(f"{job.state:<9}  {age(job.updated_at, now):>6}  {_file(job)}{_note(job)}")
    if len(found) > len(shown):
        typer.echo(f"... more: tnfd jobs --limit N, or --state {', '.join(('failed', 'queued'))}")


def _file(job: Job) -> str:
    from tnfd.rules.names import for_terminal

    return f"{job.inbox}/{for_terminal(job.source.rel)}"


def _note(job: Job) -> str:
    if job.waiting is not None:
        return f"  ({job.waiting.reason})"
    if job.error is not None:
        return f"  ({job.error.code})"
    return ""


def show(
    named: Annotated[str, typer.Argument(metavar="FILE|JOB", help="A file's path, or a job's id.")],
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Tell one job's whole story.

    Example: tnfd show ~/Dropbox/Recordings/talk.mp3
    """
    with _control(config) as control:
        job = _find(control, named)[0]
        history = control.history(job)
        found = control.job_object(job)
    found["history"] = [
        {"at": f"{entry.at:%Y-%m-%dT%H:%M:%SZ}", "event": entry.event, "detail": entry.detail}
        for entry in history
    ]
    if json:
        typer.echo(jsonlib.dumps(found, indent=2))
        return
    for line in _story(job, found):
        typer.echo(line)


def _find(control: Control, named: str) -> list[Job]:
    from tnfd.control import Ambiguous, NoSuchJob

    try:
        return control.find(named)
    except (NoSuchJob, Ambiguous) as error:
        complain(f"tnfd: {error}")
        raise typer.Exit(EXIT_FAILED) from None


def _story(job: Job, found: dict[str, Any]) -> list[str]:
    from tnfd.rules.names import for_terminal

    lines = [
        f"file      {for_terminal(job.source.path)}",
        f"job       {job.id}",
        f"state     {job.state}" + (f" ({', '.join(job.flags)})" if job.flags else ""),
    ]
    if job.waiting is not None:
        until = f" until {found['waiting']['until']}" if job.waiting.until else ""
        lines.append(f"waits     {job.waiting.reason}{until}: {job.waiting.detail}")
    if job.error is not None:
        lines += [f"error     {job.error.code}: {job.error.message}", f"hint      {job.error.hint}"]
    if job.media is not None:
        length = f", {job.media.duration_s:.1f} s" if job.media.duration_s else ""
        lines.append(f"media     {job.media.container}/{job.media.codec}{length}")
    if job.engine is not None:
        lines.append(f"engine    {job.engine.name} {job.engine.model}".rstrip())
    if job.duplicate_of is not None:
        lines.append(f"same as   {for_terminal(job.duplicate_of[1])}")
    lines += [f"output    {for_terminal(output.name)}" for output in job.outputs]
    if job.usage.requests:
        usage = job.usage
        lines.append(f"used      {usage.audio_s:.1f} s in {usage.requests} requests, ${usage.cost_usd:.4f}")
    lines.append("")
    lines += [f"{entry['at']}  {entry['event']:<9} {entry['detail']}".rstrip() for entry in found["history"]]
    return lines


def retry(
    named: Annotated[
        list[str] | None, typer.Argument(metavar="FILE|JOB...", help="Files, or jobs' ids.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Everything that failed.")] = False,
    config: ConfigOption = None,
) -> None:
    """Try failed files again; their failures are counted anew. Nothing that was paid is paid again.

    Example: tnfd retry --failed
    """
    if not named and not failed:
        complain("name files or jobs, or say --failed")
        raise typer.Exit(EXIT_USAGE)
    from tnfd.model import JobState

    with _control(config) as control:
        wanted = [_find(control, os.fspath(one))[0] for one in named or ()]
        if failed and not control.empty:
            wanted += control.jobs(state=JobState.FAILED)
        results = control.retry(list({job.id: job for job in wanted}.values())) if wanted else []
    for result in results:
        what = "queued again" if result.again else f"nothing to retry, it is {result.job.state}"
        typer.echo(f"{_file(result.job)}: {what}")
    if not results:
        typer.echo("nothing has failed")
    if any(not result.again for result in results):
        raise typer.Exit(EXIT_FAILED)
