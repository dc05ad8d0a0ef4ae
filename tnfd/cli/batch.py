"""``tnfd batch``."""

from __future__ import annotations

import contextlib
import gc
import json as jsonlib
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from tnfd.cli import terminal
from tnfd.cli.options import (
    EXIT_CONFIG,
    EXIT_OK,
    EXIT_USAGE,
    ConfigOption,
    complain,
    leave_with_problems,
)

if TYPE_CHECKING:
    from tnfd.batch.board import Board
    from tnfd.batch.plan import Estimate, Plan
    from tnfd.batch.run import Ending
    from tnfd.batch.wishes import Wishes

_EXIT_INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("batch")(batch)


def batch(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Files, and folders to look through for recordings."),
    ],
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", metavar="N", min=1, help="Files and requests at once.")
    ] = None,
    format: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="F,...", help="txt, md, srt, vtt, json; several by commas."),
    ] = None,
    no_recursive: Annotated[
        bool, typer.Option("--no-recursive", help="Only what lies directly in the folders.")
    ] = False,
    output_dir: Annotated[
        str | None, typer.Option("--output-dir", metavar="D", help="Write there, not beside the recordings.")
    ] = None,
    engine: Annotated[str | None, typer.Option("--engine", metavar="E", help="What transcribes.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="M", help="The engine's model.")] = None,
    language: Annotated[
        str | None,
        typer.Option("--language", metavar="L", help="A code, or several by commas; auto: detect."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="P", help="What the recordings are about.")
    ] = None,
    keywords: Annotated[
        list[str] | None, typer.Option("--keywords", metavar="K,...", help="Names and words that occur.")
    ] = None,
    speakers: Annotated[
        str | None, typer.Option("--speakers", metavar="S", help="off, engine or channels.")
    ] = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option("--pattern", metavar="G", help="Only files that match, as '*.mp3' or 'talks/**'."),
    ] = None,
    redo: Annotated[
        bool, typer.Option("--redo", help="Transcribe anew what is done already, and pay for it again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the estimate; nothing is sent or written.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end (schema tnfd.batch/1).")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Transcribe files and folders once, with or without a daemon.

    No configuration is needed. What is done already is not done again: the same command goes on where it
    was stopped. Exit code 0: all done; 1: some files failed; 75: some wait (budget, engine, still being
    written): run it again later; 78: no engine, or a mistake in the configuration; 130: interrupted.

    Example: tnfd batch ~/Recordings --format txt,srt --concurrency 10
    """
    gc.disable()  # until the first request: a tenth of the time that imports take (measured)

    from tnfd.batch.wishes import Wishes

    wishes = Wishes(
        paths=tuple(paths),
        config=config,
        concurrency=concurrency,
        formats=_listed(format),
        recursive=not no_recursive,
        output_dir=output_dir,
        engine=engine,
        model=model,
        language=language,
        prompt=prompt,
        keywords=_listed(keywords),
        speakers=speakers,
        patterns=tuple(pattern or ()),
        redo=redo,
    )
    try:
        raise typer.Exit(_batch(wishes, dry_run=dry_run, yes=yes, json=json))
    except (KeyboardInterrupt, typer.Abort):
        complain("\nInterrupted; nothing was begun.")
        raise typer.Exit(_EXIT_INTERRUPTED) from None


def _listed(values: list[str] | None) -> tuple[str, ...]:
    return tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())


def _batch(wishes: Wishes, *, dry_run: bool, yes: bool, json: bool) -> int:
    from tnfd.batch.plan import estimate, owed
    from tnfd.batch.report import dry_object, estimate_lines

    plan = _planned(wishes)
    owes = owed(plan)
    found = estimate(plan, os.environ, owes)
    for line in estimate_lines(found, plan):
        _say(line)
    if dry_run:
        if json:
            _print(dry_object(plan, found, owes))
        return EXIT_OK
    if not plan.items and plan.ignored and not plan.left_out:
        complain("tnfd: nothing of that is a recording")
        return EXIT_USAGE
    if found.todo and plan.setting.assumed:
        _agree(found, yes=yes)
    return _run(plan, found, json=json)


def _planned(wishes: Wishes) -> Plan:
    from tnfd.batch.plan import make_plan
    from tnfd.batch.wishes import WrongUsage, load_setting
    from tnfd.errors import ConfigError

    try:
        return make_plan(wishes, load_setting(wishes, os.environ))
    except ConfigError as error:
        leave_with_problems(error)
    except WrongUsage as error:
        for line in str(error).splitlines():
            complain(f"tnfd: {line}")
        raise typer.Exit(EXIT_USAGE) from None


def _agree(found: Estimate, *, yes: bool) -> None:
    """Nobody has chosen an engine: ask whether this one may have the recordings."""
    from tnfd.config import no_engine

    if yes:
        return
    host = found.engines[0].host
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        _refuse(f"{no_engine()}; or agree to {host} for this batch: --yes")
    cost = terminal.dollars(found.cost_usd)
    if not typer.confirm(f"Upload them to {host} for about {cost}?", default=False, err=True):
        _refuse("nothing was sent; to choose another engine: --engine NAME, or tnfd init")


def _refuse(why: str) -> NoReturn:
    complain(f"tnfd: {why}")
    raise typer.Exit(EXIT_CONFIG)


def _run(plan: Plan, found: Estimate, *, json: bool) -> int:
    import asyncio

    from tnfd.batch.board import Board
    from tnfd.batch.report import batch_object, summary_lines
    from tnfd.clock import SystemClock

    clock = SystemClock()
    board = Board(clock, plan.items, started_at=clock.now())
    ending = asyncio.run(_shown(plan, board, clock))
    for line in summary_lines(plan, board, ending):
        terminal.say(line, err=json, prose=True)
    if json:
        price = found.engines[0] if found.engines else None
        _print(batch_object(plan, board, ending, clock.now(), price))
    return ending.exit_code


async def _shown(plan: Plan, board: Board, clock: Any) -> Ending:
    """Run with a display; its end is the run's end."""
    import asyncio

    from tnfd import logs
    from tnfd.batch.run import Halter, run_batch

    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from tnfd.cli.live import LiveView as View
    else:
        from tnfd.cli.lines import LinesView as View  # type: ignore[assignment]
    halter = Halter(board)
    with halter.listen(), View(board) as view:
        logs.configure("console", "error")  # whatever else happens is said by the view, in its own words
        try:
            async with asyncio.TaskGroup() as group:
                pulse = group.create_task(view.pulse(clock))
                ending = await run_batch(plan, os.environ, board, halter, clock)
                pulse.cancel()
        except BaseExceptionGroup as errors:
            error: BaseException = errors
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from None
    return ending


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens; that is no reason not to work
        terminal.say(line, err=True, prose=True)


def _print(whole: dict[str, Any]) -> None:
    typer.echo(jsonlib.dumps(whole, indent=2))
