"""``tnfd service install | uninstall | status | logs``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from tnfd.cli import terminal
from tnfd.cli.options import (
    EXIT_FAILED,
    EXIT_TRY_LATER,
    EXIT_UNHEALTHY,
    EXIT_USAGE,
    ConfigOption,
    at_a_terminal,
    complain,
    leave_with_problems,
)

if TYPE_CHECKING:
    from tnfd.config import Config
    from tnfd.service.target import Target

UserOption = Annotated[bool, typer.Option("--user", help="Your own service (the default).")]
SystemOption = Annotated[bool, typer.Option("--system", help="The system's: it starts at boot.")]
RunAsOption = Annotated[
    str | None,
    typer.Option("--run-as", metavar="USER", help="With --system: the user to whom recordings belong."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        rich_markup_mode=None,
        no_args_is_help=True,
        help="Run tnfd by itself: as a service of systemd or launchd.",
    )
    group.command("install")(install)
    group.command("uninstall")(uninstall)
    group.command("status")(status)
    group.command("logs")(logs)
    app.add_typer(group, name="service")


def install(
    user: UserOption = False,
    system: SystemOption = False,
    run_as: RunAsOption = None,
    print_: Annotated[
        bool, typer.Option("--print", help="Only show the files, each after a comment with its path.")
    ] = False,
    no_start: Annotated[bool, typer.Option("--no-start", help="Set it up, but do not start it.")] = False,
    config: ConfigOption = None,
) -> None:
    """Set the service up, or bring it up to date.

    Run it again after a change of the configuration. It may write to the folders of the configuration and
    nowhere else. A key for OpenAI is asked for, and kept where only the service reads it. Exit code 75: all
    is written, but nothing here can start it.

    For the system's: sudo tnfd service install --system --run-as USER

    Example: tnfd service install
    """
    from tnfd.service.install import CannotInstall, Wanted, install
    from tnfd.service.sandbox import program_here

    target = _target(user=user, system=system, run_as=run_as, look_around=False, printed=print_)
    loaded = _load(config, target)
    wanted = Wanted(target, loaded, program_here(), start=not no_start)
    if print_:
        _print(wanted)
        return
    _ask_for_key(loaded, target)
    try:
        managed = install(wanted, os.environ, terminal.say)
    except CannotInstall as reason:
        complain(f"tnfd: {reason}")
        raise typer.Exit(EXIT_FAILED) from None
    except OSError as error:
        _cannot(error)
    _hints(target, managed=managed)
    if not managed and not no_start:
        raise typer.Exit(EXIT_TRY_LATER)


def uninstall(
    user: UserOption = False,
    system: SystemOption = False,
    run_as: RunAsOption = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove the state folder and the key that was asked for as well.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Stop the service and remove its files.

    The configuration, recordings and transcripts stay. --purge removes what tnfd knows of them.

    Example: tnfd service uninstall
    """
    from tnfd.service.files import purge as purge_files
    from tnfd.service.install import uninstall

    target = _target(user=user, system=system, run_as=run_as)
    try:
        if not uninstall(target, os.environ, terminal.say):
            terminal.say(f"{target.unit} is not set up")
        if purge:
            for path in purge_files(target, _state_dir(config, target)):
                terminal.say(f"removed {path}")
    except OSError as error:
        _cannot(error)


def status(
    user: UserOption = False,
    system: SystemOption = False,
    run_as: RunAsOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print the schema tnfd.service/1.")] = False,
    config: ConfigOption = None,
) -> None:
    """Say whether the service is set up and runs.

    Exit code 0: it runs; 3: it does not. What the daemon does, tnfd status tells.

    Example: tnfd service status
    """
    from tnfd.service.state import state_of

    target = _target(user=user, system=system, run_as=run_as)
    found = state_of(target, _config_or_none(config, target), os.environ)
    if json:
        import json as jsonlib

        typer.echo(jsonlib.dumps(found.as_json(), indent=2))
    else:
        for label, text in found.lines():
            terminal.say(f"{label:<10}{text}".rstrip())
    if not found.runs:
        raise typer.Exit(EXIT_UNHEALTHY)


def logs(
    user: UserOption = False,
    system: SystemOption = False,
    run_as: RunAsOption = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[
        int, typer.Option("-n", "--lines", metavar="N", help="How many lines to begin with.")
    ] = 100,
    json: Annotated[bool, typer.Option("--json", help="The lines as they are, an object each.")] = False,
    config: ConfigOption = None,  # noqa: ARG001 - an option of every command
) -> None:
    """Show the service's log.

    Example: tnfd service logs -f
    """
    import subprocess

    from tnfd.logs import for_people
    from tnfd.service.control import manager_of

    target = _target(user=user, system=system, run_as=run_as)
    command = manager_of(target, os.environ).log_command(follow=follow, lines=max(0, lines))
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
            assert process.stdout is not None  # noqa: S101 - as asked for
            for raw in process.stdout:
                line = raw.decode("utf-8", "backslashreplace").rstrip("\n")
                sys.stdout.write((line if json else for_people(line)) + "\n")
                sys.stdout.flush()
    except FileNotFoundError:
        complain(f"tnfd: there is no {command[0]} here to ask")
        raise typer.Exit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if process.returncode:
        raise typer.Exit(EXIT_FAILED)


# -- whose service -----------------------------------------------------------------------------------------


def _target(
    *, user: bool, system: bool, run_as: str | None, look_around: bool = True, printed: bool = False
) -> Target:
    """The service that is meant. Where nothing says so and ``look_around``: the one that is set up."""
    from tnfd.service.files import installed, instances
    from tnfd.service.target import own_target, system_target

    if user and (system or run_as):
        _refuse("--user is your own service; --system and --run-as belong together")
    if run_as and not system and not look_around:
        _refuse("--run-as belongs to --system")
    own = own_target(os.environ)
    if not system and not run_as:
        there = [] if user or not look_around or installed(own) else instances()
        if not there:
            _check_not_by_sudo(own, printed=printed or look_around)
            return own
        run_as = own.owner.name if own.owner.name in there else there[0]
    name = run_as or os.environ.get("SUDO_USER") or (own.owner.name if own.owner.uid else "")
    if not name or (name == "root" and not run_as):
        _refuse("--system: name the user to whom the recordings belong: --run-as USER")
    try:
        return system_target(name)
    except KeyError:
        _refuse(f'--run-as: there is no user "{name}"')


def _check_not_by_sudo(own: Target, *, printed: bool) -> None:
    by = os.environ.get("SUDO_USER", "")
    if own.owner.uid == 0 and by not in ("", "root") and not printed:
        _refuse(
            f"this would be a service of root. Leave sudo out to make it {by}'s own, or:"
            f" sudo tnfd service install --system --run-as {by}"
        )


def _refuse(text: str) -> NoReturn:
    complain(f"tnfd: {text}")
    raise typer.Exit(EXIT_USAGE)


def _cannot(error: OSError) -> NoReturn:
    complain(f"tnfd: {error.filename or ''}: {error.strerror}")
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        complain(f"The system's service is root's to set up: sudo {' '.join(['tnfd', *sys.argv[1:]])}")
    raise typer.Exit(EXIT_FAILED)


# -- the configuration, and the key ------------------------------------------------------------------------


def _load(config: Path | None, target: Target, *, places: bool = True) -> Config:
    """As the service will read it; a mistake ends this with 78."""
    from tnfd.config import load_config, require_runnable
    from tnfd.errors import ConfigError

    environ = _environ_of(target, config)
    try:
        loaded = load_config(config, environ, places=places)
        require_runnable(loaded)
    except ConfigError as error:
        leave_with_problems(error)
    return loaded


def _environ_of(target: Target, config: Path | None) -> dict[str, str]:
    """What the service's configuration is read with; once set up with a file it stays with that file."""
    from tnfd.service.files import config_named
    from tnfd.service.target import environ_of

    environ = environ_of(target, os.environ)
    named = os.environ.get("TNFD_CONFIG") or config_named(target)
    if config is None and named and os.path.lexists(named):
        environ["TNFD_CONFIG"] = str(named)
    return environ


def _config_or_none(config: Path | None, target: Target) -> Config | None:
    from tnfd.config import load_config
    from tnfd.errors import ConfigError

    try:
        return load_config(config, _environ_of(target, config), places=False)
    except ConfigError:
        return None


def _state_dir(config: Path | None, target: Target) -> Path:
    from tnfd.config.places import default_state_dir
    from tnfd.service.target import environ_of

    loaded = _config_or_none(config, target)
    return loaded.daemon.state_dir if loaded else default_state_dir(environ_of(target, os.environ))[0]


def _print(wanted: Any) -> None:
    from tnfd.service.files import files_of
    from tnfd.service.install import key_is_kept

    for number, file in enumerate(
        files_of(wanted.target, wanted.config, wanted.program, key=key_is_kept(wanted.target))
    ):
        if number:
            terminal.say()
        terminal.say(f"# {file.path}")
        terminal.say(file.text.rstrip("\n"))


def _ask_for_key(config: Config, target: Target) -> None:
    """A service sees no variable of a terminal, so a key that is needed is asked for and kept."""
    from tnfd.service.install import engine_without_key, key_is_kept

    engine = engine_without_key(config)
    if engine is None or key_is_kept(target):
        return
    from_shell = os.environ.get("OPENAI_API_KEY", "")
    if not at_a_terminal():
        complain(
            f"No key is kept for the engine {engine.name}, and a service does not see $OPENAI_API_KEY."
            f" Write it to {target.key_file} (mode 0600), then run this again."
        )
        return
    if from_shell and typer.confirm("Keep the key of $OPENAI_API_KEY for the service?", default=True):
        key = from_shell
    else:
        key = _answered(engine.name)
    if key:
        _keep(key, target)


def _answered(name: str) -> str:
    from tnfd.config.secret import key_complaint

    while True:
        key = str(
            typer.prompt(
                f"Key for {name} (not shown; Enter: later)", default="", show_default=False, hide_input=True
            )
        ).strip()
        complaint = key_complaint(key) if key else None
        if complaint is None:
            return key
        terminal.say(complaint)


def _keep(key: str, target: Target) -> None:
    from tnfd.config.write import write_private

    try:
        write_private(target.key_file, f"{key.strip()}\n".encode(), replace=True)
        if os.geteuid() == 0 and not target.system:
            os.chown(target.key_file, target.owner.uid, target.owner.gid)
    except OSError as error:
        _cannot(error)
    terminal.say(f"kept the key in {target.key_file}, which nobody else can read")


def _hints(target: Target, *, managed: bool) -> None:
    from tnfd.service.control import Systemd, manager_of

    manager = manager_of(target, os.environ)
    if isinstance(manager, Systemd) and not target.system and manager.lingers() is not True:
        terminal.say("To let it run while you are not logged in: loginctl enable-linger")
    if managed:
        terminal.say("How it does: tnfd status    Its log: tnfd service logs -f")
