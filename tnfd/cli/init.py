"""``tnfd init``: asks what flags have not said, writes a starter configuration, says what is next.

Makes the inbox folder and the configuration file; touches nothing else, and no existing file without --force.
"""

from __future__ import annotations

import itertools
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnfd.cli import terminal
from tnfd.cli.options import EXIT_FAILED, EXIT_USAGE, ConfigOption, leave_with_problems
from tnfd.cli.prose import object_to, tell
from tnfd.cli.questions import SERVER, Chosen, choose_engine, choose_inbox
from tnfd.rules.counted import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tnfd.config import Config, EngineConfig

_HANG = 2


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
        typer.Option("--engine", metavar="NAME", help="What transcribes: openai, server, whisper or sphinx."),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help=f"The address of the {SERVER}, with its /v1."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="The engine's model.")] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace an existing file; it is kept as config.toml.bak, .bak2, ..."),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Write a starter configuration, and say what to do next.

    Asks what it is not told. Shows what lies in the inbox: files, hours, dollars.

    Example: tnfd init --inbox ~/Recordings --engine openai
    """
    target = _target(config)
    if target.exists() and not force:
        object_to(
            f"{target} exists already; nothing was changed.\n"
            "See what it says: tnfd config show\nStart anew, and keep the old file: tnfd init --force"
        )
        raise typer.Exit(EXIT_USAGE)
    chosen = choose_engine(engine, base_url, model)
    folder, made = choose_inbox(inbox, os.environ)
    made = _write(target, folder, chosen, force=force) or made
    _report(target, config, made=made)


def _target(flag: Path | None) -> Path:
    from tnfd.config.places import home_config, named_file

    named = named_file(flag, os.environ)
    # Behind a link: who links a configuration wants the link to stay.
    return Path(os.path.realpath(named[0] if named else home_config(os.environ)))


# -- writing ---------------------------------------------------------------------------------------------


def _write(target: Path, folder: Path, engine: Chosen, *, force: bool) -> bool:
    """Check, make the inbox, write. Returns whether the inbox was made."""
    from tnfd.config import check_text
    from tnfd.config.places import overlaps
    from tnfd.config.write import KEY_FILE, starter_text, write_private
    from tnfd.errors import ConfigError, Problem

    text = starter_text(
        folder, engine.name, target.parent / KEY_FILE, base_url=engine.base_url, model=engine.model
    )
    environ = _without_tnfd(os.environ)
    made = False
    try:
        planned = check_text(text, target, environ, places=False)
        wrong = [Problem(str(target), None, key, message) for key, message in overlaps(planned)]
        if wrong:
            raise ConfigError(wrong)
        if not folder.exists():
            folder.mkdir(parents=True)
            made = True
        check_text(text, target, environ)
        if force and target.exists():
            tell(f"The old configuration is kept as {_keep(target)}", hang=_HANG)
        write_private(target, text.encode(), replace=force)
    except ConfigError as error:
        object_to("Nothing was written:")
        leave_with_problems(error)
    except FileExistsError as error:
        object_to(f"{error.filename or target} appeared in the meantime; nothing was changed.")
        raise typer.Exit(EXIT_USAGE) from error
    except OSError as error:
        object_to(f"Writing failed: {error.filename or target}: {error.strerror}")
        raise typer.Exit(EXIT_FAILED) from error
    tell(f"Wrote {target}", hang=_HANG)
    return made


def _keep(target: Path) -> Path:
    """Copy a configuration to a name beside it that nothing has yet."""
    from tnfd.config.write import write_private

    content = target.read_bytes()
    for number in itertools.count(1):
        backup = target.with_name(f"{target.name}.bak{number if number > 1 else ''}")
        try:
            write_private(backup, content, replace=False)
        except FileExistsError:
            continue
        return backup
    raise AssertionError  # pragma: no cover  # there is always another number


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


def _report(target: Path, flag: Path | None, *, made: bool) -> None:
    from tnfd.config import load_config
    from tnfd.errors import ConfigError

    environ = os.environ
    try:
        config = load_config(target, _without_tnfd(environ))
    except ConfigError as error:
        leave_with_problems(error)
    folder = config.inboxes[0].path
    if made:
        tell(f"Made the inbox folder {folder}", hang=_HANG)
    tell(f"\n{_describe(config, folder, environ)}\n\nNext:")
    option = f" --config {shlex.quote(str(target))}" if flag is not None else ""
    for step in (*_needs(config, target, environ), f"tnfd config check{option}", f"tnfd run{option}"):
        terminal.say(f"  {step}")  # never broken: it is there to be copied


def _without_tnfd(environ: Mapping[str, str]) -> dict[str, str]:
    # What TNFD_ variables change must not hide a mistake in the file itself.
    return {name: value for name, value in environ.items() if not name.startswith("TNFD_")}


def _describe(config: Config, folder: Path, environ: Mapping[str, str]) -> str:
    content = _content_of(folder)
    if not content.files:
        return f"No recordings in {folder} yet: drop some there."
    files, hours = counted(content.files, "recording", "recordings"), content.audio_s / 3600
    text = f"In {folder}: {files}, {_size(content.size_bytes)}, about {_hours(hours)} of audio"
    engine = next(iter(config.engines.values()))
    if engine.type == "openai":
        from tnfd.clock import SystemClock
        from tnfd.wiring import build_engine

        price = build_engine(engine, config, environ, SystemClock()).capabilities.usd_per_minute
        text += f", about {terminal.dollars(price * hours * 60)}" if price else ", of no known price"
    else:
        text += ", free"
    return (
        f"{text} (guessed from the sizes).\n"
        "When the daemon starts, it takes those of them that were not done before;"
        ' with existing = "skip" below [[inbox]] it leaves them alone.'
    )


def _size(size_bytes: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


def _hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else counted(max(1, round(hours * 60)), "minute", "minutes")


def _model_steps(engine: EngineConfig, config: Config, environ: Mapping[str, str]) -> list[str]:
    from tnfd.wiring import installed_whisper

    if installed_whisper(config, environ, engine.model) is not None:
        return [f"# the model {engine.model} is on this machine"]
    return [f"# the model {engine.model} is downloaded for the first recording; see: tnfd status"]


def _needs(config: Config, target: Path, environ: Mapping[str, str]) -> list[str]:
    """What is missing before the engine can work, as commands."""
    from tnfd.config import secret_of
    from tnfd.config.write import KEY_FILE
    from tnfd.libraries import install_command, is_installed

    engine = next(iter(config.engines.values()))
    if not is_installed(engine.type):
        return ["# the engine itself:", install_command(engine.type)]
    if engine.type == "whisper":
        return _model_steps(engine, config, environ)
    if engine.type != "openai":
        return []
    secret = secret_of(engine, environ)
    if secret is not None:
        return [f"# the API key is taken from {secret.source}"]
    if engine.base_url:
        return ["# if that server wants a key: set api_key_file in the configuration"]
    key_file = shlex.quote(str(target.parent / KEY_FILE))
    return [
        "# the API key, for this terminal alone (paste it, Enter; it is not shown):",
        "read -rs OPENAI_API_KEY && export OPENAI_API_KEY",
        "# or for good (paste it, Enter, Ctrl-D; then set api_key_file in the file):",
        f"(umask 077 && cat > {key_file})",
    ]
