"""``tnfd init``: asks two questions (or takes two flags), writes a starter configuration, says what is next.

Makes the inbox folder and the configuration file; touches nothing else, and no existing file without --force.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnfd.cli.options import (
    EXIT_FAILED,
    EXIT_USAGE,
    ConfigOption,
    at_a_terminal,
    complain,
    leave_with_problems,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tnfd.config import Config

_CHOICES = {
    "openai": "recordings are uploaded to OpenAI; best quality; about $0.27 an hour; needs an API key",
    "whisper": "on this machine, nothing is uploaded; good quality; free; needs tnfd[whisper] and a model",
    "sphinx": "on this machine, nothing is uploaded; draft quality, English only; free; needs tnfd[sphinx]",
}
_USUAL_FOLDERS = ("~/Recordings", "~/Dropbox/Recordings", "~/Nextcloud/Recordings", "~/Sync/Recordings")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)


def init(
    inbox: Annotated[
        Path | None,
        typer.Option("--inbox", metavar="DIR", help="The folder to watch; made if it is missing."),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="NAME", help="What transcribes: openai, whisper or sphinx."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing file; it is kept with .bak at its end.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Write a starter configuration, and say what to do next.

    Asks what it is not told. Shows what lies in the inbox: files, hours, dollars.

    Example: tnfd init --inbox ~/Recordings --engine openai
    """
    target = _target(config)
    if target.exists() and not force:
        complain(
            f"{target} exists already; nothing was changed.\n"
            "See what it says with: tnfd config show. To start anew: tnfd init --force (keeps the old file)"
        )
        raise typer.Exit(EXIT_USAGE)
    chosen = _choose_engine(engine)
    folder = _choose_inbox(inbox)
    created = _write(target, folder, chosen, force=force)
    _report(target, config, created=created)


# -- questions -------------------------------------------------------------------------------------------


def _target(flag: Path | None) -> Path:
    from tnfd.config.places import home_config, named_file

    named = named_file(flag, os.environ)
    # Behind a link: who links a configuration wants the link to stay.
    return Path(os.path.realpath(named[0] if named else home_config(os.environ)))


def _choose_engine(given: str | None) -> str:
    from tnfd.config import ENGINE_TYPES, available_engines

    usable = available_engines()
    lines = "\n".join(f"  {name:8} {_CHOICES[name]}" for name in usable)
    if given is not None:
        if given in usable:
            return given
        why = "is not available yet in this version" if given in ENGINE_TYPES else "is not an engine"
        complain(f'--engine: "{given}" {why}. Choose one of:\n{lines}')
        raise typer.Exit(EXIT_USAGE)
    if not at_a_terminal():
        complain(f"An engine has to be chosen, none is ever guessed: --engine NAME. NAME is one of:\n{lines}")
        raise typer.Exit(EXIT_USAGE)
    typer.echo(f"What shall transcribe your recordings?\n{lines}")
    while True:
        answer = str(typer.prompt("Engine")).strip().lower()
        if answer in usable:
            return answer
        typer.echo(f"Please type one of: {', '.join(usable)}")


def _choose_inbox(given: Path | None) -> Path:
    """The folder, absolute; it may be missing, which has then been agreed to."""
    if given is not None:
        folder = _absolute(str(given))
        complaint = _complaint(folder)
        if complaint:
            complain(f"--inbox: {complaint}")
            raise typer.Exit(EXIT_USAGE)
        return folder
    usual = [_absolute(folder) for folder in _USUAL_FOLDERS]
    default = next((folder for folder in usual if folder.is_dir()), usual[0])
    if not at_a_terminal():
        return default
    while True:
        folder = _absolute(str(typer.prompt("Folder to watch", default=str(default))))
        complaint = _complaint(folder)
        if complaint:
            typer.echo(complaint)
        elif folder.is_dir() or typer.confirm(f"{folder} does not exist. Make it?", default=True):
            return folder


def _absolute(written: str) -> Path:
    from tnfd.config.kinds import absolute
    from tnfd.config.places import here

    return absolute(written, here(os.environ))


def _complaint(folder: Path) -> str | None:
    if folder.exists() and not folder.is_dir():
        return f"expected a folder, found a file: {folder}"
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        return f"the path is not UTF-8, and a TOML file has to be: {os.fsencode(folder)!r}"
    return None


# -- writing ---------------------------------------------------------------------------------------------


def _write(target: Path, folder: Path, engine: str, *, force: bool) -> bool:
    """Check, make the inbox, write. Returns whether the inbox was made."""
    from tnfd.config import check_text
    from tnfd.config.places import overlaps
    from tnfd.config.write import starter_text, write_private
    from tnfd.errors import ConfigError, Problem

    text = starter_text(folder, engine, target.parent / "openai-api-key")
    environ = _without_tnfd(os.environ)
    created = False
    try:
        planned = check_text(text, target, environ, places=False)
        wrong = [Problem(str(target), None, key, message) for key, message in overlaps(planned)]
        if wrong:
            raise ConfigError(wrong)
        if not folder.exists():
            folder.mkdir(parents=True)
            created = True
        check_text(text, target, environ)
        if force and target.exists():
            backup = target.with_name(f"{target.name}.bak")
            write_private(backup, target.read_bytes(), replace=True)
            typer.echo(f"The old configuration is kept as {backup}")
        write_private(target, text.encode(), replace=force)
    except ConfigError as error:
        complain("Nothing was written:")
        leave_with_problems(error)
    except FileExistsError as error:
        complain(f"{error.filename or target} appeared in the meantime; nothing was changed.")
        raise typer.Exit(EXIT_USAGE) from error
    except OSError as error:
        complain(f"Writing failed: {error.filename or target}: {error.strerror}")
        raise typer.Exit(EXIT_FAILED) from error
    typer.echo(f"Wrote {target}")
    return created


# -- what lies there, what comes next --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Content:
    files: int = 0
    size_bytes: int = 0
    audio_s: float = 0.0


def _content_of(folder: Path) -> _Content:
    """Count the recordings by names and sizes; none is opened."""
    from tnfd.intake.scan import SLICE, Walk
    from tnfd.root import Root
    from tnfd.rules.estimate import estimate_audio_s
    from tnfd.rules.ignore import NameRules

    files, size_bytes, audio_s = 0, 0, 0.0
    with Root(os.fsencode(folder)) as root:
        walk = Walk(root, NameRules())
        more = True
        while more:
            entries = walk.next_slice()
            more = len(entries) == SLICE
            files += len(entries)
            size_bytes += sum(entry.stat.size_bytes for entry in entries)
            audio_s += sum(
                estimate_audio_s(os.fsdecode(entry.rel), entry.stat.size_bytes) for entry in entries
            )
    return _Content(files, size_bytes, audio_s)


def _report(target: Path, flag: Path | None, *, created: bool) -> None:
    from tnfd.config import load_config
    from tnfd.errors import ConfigError

    environ = os.environ
    try:
        config = load_config(target, _without_tnfd(environ))
    except ConfigError as error:
        leave_with_problems(error)
    folder = config.inboxes[0].path
    if created:
        typer.echo(f"Made the inbox folder {folder}")
    typer.echo(f"\n{_describe(config, folder, environ)}\n\nNext:")
    option = f" --config {shlex.quote(str(target))}" if flag is not None else ""
    for step in (*_needs(config, target, environ), f"tnfd config check{option}", f"tnfd run{option}"):
        typer.echo(f"  {step}")


def _without_tnfd(environ: Mapping[str, str]) -> dict[str, str]:
    # What TNFD_ variables change must not hide a mistake in the file itself.
    return {name: value for name, value in environ.items() if not name.startswith("TNFD_")}


def _describe(config: Config, folder: Path, environ: Mapping[str, str]) -> str:
    content = _content_of(folder)
    if not content.files:
        return f"No recordings in {folder} yet: drop some there."
    noun = "recording" if content.files == 1 else "recordings"
    hours = content.audio_s / 3600
    text = f"In {folder}: {content.files} {noun}, {_size(content.size_bytes)}, about {_hours(hours)} of audio"
    engine = next(iter(config.engines.values()))
    if engine.type == "openai":
        from tnfd.clock import SystemClock
        from tnfd.wiring import build_engine

        price = build_engine(engine, environ, SystemClock()).capabilities.usd_per_minute
        text += f", about ${price * hours * 60:.2f}" if price else ", of no known price"
    else:
        text += ", free"
    return (
        f"{text} (guessed from the sizes).\n"
        'The daemon takes them when it starts; existing = "skip" below [[inbox]] leaves them alone.'
    )


def _size(size_bytes: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


def _hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(hours * 60))} minutes"


def _needs(config: Config, target: Path, environ: Mapping[str, str]) -> list[str]:
    """What is missing before the engine can work, as commands."""
    from tnfd.config import secret_of

    engine = next(iter(config.engines.values()))
    if engine.type == "sphinx" and importlib.util.find_spec("pocketsphinx") is None:
        return ["pip install 'tnfd[sphinx]'    # the engine itself"]
    if engine.type != "openai":
        return []
    secret = secret_of(engine, environ)
    if secret is not None:
        return [f"# the API key is taken from {secret.source}"]
    key_file = shlex.quote(str(target.parent / "openai-api-key"))
    return [
        "# the API key, for this terminal alone (paste it, press Enter; it is not shown):",
        "read -rs OPENAI_API_KEY && export OPENAI_API_KEY",
        "# or for good (paste it, press Enter, then Ctrl-D), and set api_key_file in the configuration:",
        f"(umask 077 && cat > {key_file})",
    ]
