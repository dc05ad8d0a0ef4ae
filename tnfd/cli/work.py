"""``tnfd retry``, ``cancel``, ``forget`` and ``redo``: doing something to jobs, with or without a daemon."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tnfd.cli import terminal
from tnfd.cli.complete import engines, inboxes
from tnfd.cli.jobs import FilesOrJobs, find_or_exit, name_of, open_control
from tnfd.cli.options import EXIT_FAILED, EXIT_USAGE, ConfigOption, at_a_terminal, complain

if TYPE_CHECKING:
    from tnfd.control import Control, Dealt
    from tnfd.control.redo import RedoPlan
    from tnfd.model import Job

_LISTED = 10


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("retry")(retry)
    app.command("redo")(redo)
    app.command("cancel")(cancel)
    app.command("forget")(forget)


def _named_or_exit(named: list[str] | None) -> list[str]:
    if not named:
        complain("tnfd: name files or jobs; tnfd jobs lists them")
        raise typer.Exit(EXIT_USAGE)
    return named


def _leave_if(refused: bool) -> None:
    if refused:
        raise typer.Exit(EXIT_FAILED)


def retry(
    named: FilesOrJobs = None,
    failed: Annotated[bool, typer.Option("--failed", help="Everything that failed.")] = False,
    config: ConfigOption = None,
) -> None:
    """Try failed, cancelled or waiting files again.

    Their failures are counted anew. Nothing that was paid is paid again.

    Example: tnfd retry --failed
    """
    if not named and not failed:
        complain("tnfd: name files or jobs, or say --failed")
        raise typer.Exit(EXIT_USAGE)
    from tnfd.model import JobState

    with open_control(config) as control:
        wanted = find_or_exit(control, named or [])
        if failed:
            wanted += control.jobs(state=JobState.FAILED)
        results = control.retry(list({job.id: job for job in wanted}.values())) if wanted else []
    for result in results:
        if result.done:
            terminal.say(f"{name_of(result.job)}: queued again")
        elif not result.served:
            path = shlex.quote(os.fsdecode(result.job.present.path))
            why = f"{name_of(result.job)}: no configured inbox holds it; run: tnfd batch {path}"
            terminal.say(why, err=True)  # never broken: it is there to be copied
        else:
            complain(f"{name_of(result.job)}: nothing to retry, it is {result.job.state}")
    if not results:
        terminal.say("Nothing has failed.")
    _leave_if(any(not result.done for result in results))


def cancel(named: FilesOrJobs = None, config: ConfigOption = None) -> None:
    """Take files out of the work.

    A request that is under way is ended; if the server has it whole, it may be paid. tnfd retry brings the
    files back.

    Example: tnfd cancel ~/Recordings/talk.mp3
    """
    names = _named_or_exit(named)
    with open_control(config) as control:
        results = control.cancel(find_or_exit(control, names))
    for result in results:
        if result.done:
            terminal.say(f"{name_of(result.job)}: cancelled")
        else:
            complain(f"{name_of(result.job)}: nothing to cancel, it is {result.before or 'forgotten'}")
    _leave_if(any(not result.done for result in results))


def forget(named: FilesOrJobs = None, config: ConfigOption = None) -> None:
    """Remove what tnfd keeps of files: story, transcript, scratch.

    Nothing beside the recordings is touched. A forgotten file is not taken again by itself as long as it
    stays as it is; changed, moved or given to tnfd batch it counts as new, and is paid for like any other.

    Example: tnfd forget ~/Recordings/private.mp3
    """
    names = _named_or_exit(named)
    with open_control(config) as control:
        results = control.forget(find_or_exit(control, names))
    for result in results:
        if result.done:
            terminal.say(f"{name_of(result.job)}: forgotten")
        elif result.before is None:
            complain(f"{name_of(result.job)}: forgotten already")
        elif result.before.final:
            complain(
                f"{name_of(result.job)}: not forgotten, its files are being moved; try again in a moment"
            )
        else:
            complain(
                f"{name_of(result.job)}: not forgotten, it is {result.before};"
                f" first run: tnfd cancel {result.job.id}"
            )
    _leave_if(any(not result.done for result in results))


# -- redo ------------------------------------------------------------------------------------------------


def redo(
    named: FilesOrJobs = None,
    inbox: Annotated[
        str | None,
        typer.Option(
            "--inbox", metavar="NAME", autocompletion=inboxes, help="All finished files of this inbox."
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="NAME", autocompletion=engines, help="With this engine instead."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would take.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, though it costs money.")] = False,
    config: ConfigOption = None,
) -> None:
    """Transcribe finished files again, with the present settings.

    They are paid for again; files, hours and dollars are shown first. The new transcript takes the old one's
    place; where somebody has edited that, it becomes "talk (2).txt".

    Example: tnfd redo --inbox recordings --engine openai --dry-run
    """
    if bool(named) == bool(inbox):
        complain("tnfd: name files or jobs, or an inbox with --inbox (not both)")
        raise typer.Exit(EXIT_USAGE)
    with open_control(config) as control:
        _check_names(control, inbox, engine)
        plan = _plan(
            control, _of_inbox(control, inbox) if inbox else find_or_exit(control, named or []), engine
        )
        _show(plan, every=dry_run)
        if dry_run or not plan.items:
            _leave_if(not inbox and bool(plan.refused))
            return
        if plan.may_cost and not yes:
            _agree()
        results = control.redo(plan)
    _report(results)
    _leave_if((not inbox and bool(plan.refused)) or any(not result.done for result in results))


def _check_names(control: Control, inbox: str | None, engine: str | None) -> None:
    known = [one.name for one in control.config.inboxes]
    if inbox and inbox not in known:
        complain(f"tnfd: no such inbox: {inbox}; configured: {', '.join(known) or 'none'}")
        raise typer.Exit(EXIT_USAGE)
    if engine and engine not in control.config.engines:
        complain(f"tnfd: no such engine: {engine}; configured: {', '.join(control.config.engines) or 'none'}")
        raise typer.Exit(EXIT_USAGE)


def _of_inbox(control: Control, inbox: str) -> list[Job]:
    """The finished files of an inbox: of each path the newest job."""
    from tnfd.control.redo import FINISHED

    newest: dict[bytes, Job] = {}
    for job in control.jobs(inbox=inbox):
        newest.setdefault(job.source.path, job)
    return [job for job in newest.values() if job.state in FINISHED]


def _plan(control: Control, jobs: Sequence[Job], engine: str | None) -> RedoPlan:
    from tnfd.control.redo import plan_redo

    return plan_redo(control.config, os.environ, control.clock, jobs, engine)


def _show(plan: RedoPlan, *, every: bool) -> None:
    for job, why in plan.refused:
        complain(f"{name_of(job)}: left out, {why}")
    if not plan.items:
        terminal.say("Nothing to transcribe again.")
        return
    listed = plan.items if every else plan.items[:_LISTED]
    for item in listed:
        cost = f", {terminal.dollars(item.cost_usd)}" if item.cost_usd else ""
        what = terminal.audio(item.audio_s) + cost if item.pays else "the same content again"
        terminal.say(f"  {name_of(item.job)}  ({what})")
    if len(listed) < len(plan.items):
        terminal.say(f"  ... and {len(plan.items) - len(listed)} more")
    files = "1 file" if len(plan.items) == 1 else f"{len(plan.items)} files"
    cost = f"about {terminal.dollars(plan.cost_usd)}" if plan.cost_usd else "free"
    if plan.may_cost and not plan.cost_usd:
        cost = "of no known price"
    terminal.say(
        f"{files}, about {terminal.audio(plan.audio_s)} of audio, {cost}; {' and '.join(plan.engines)}",
        prose=True,
    )


def _agree() -> None:
    if not at_a_terminal():
        complain("tnfd: that costs money: agree with --yes, or see what it takes with --dry-run")
        raise typer.Exit(EXIT_USAGE)
    if not typer.confirm("Transcribe again and pay for it?", default=False):
        complain("Nothing was changed.")
        raise typer.Exit(EXIT_FAILED)


def _report(results: Sequence[Dealt]) -> None:
    queued = sum(result.done for result in results)
    for result in results:
        if not result.done:
            complain(
                f"{name_of(result.job)}: left out, it has changed in the meantime; run the command again"
            )
    terminal.say(f"{queued} queued; tnfd jobs shows how they get on")
