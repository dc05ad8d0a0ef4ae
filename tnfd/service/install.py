"""Setting a service up and taking it away: the steps in order, each told as it is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tnfd.config import Config, EngineConfig, base_url_of
from tnfd.service import files
from tnfd.service.control import RUNNING, Launchd, Systemd, manager_of
from tnfd.service.sandbox import Program
from tnfd.service.target import Target

Say = Callable[[str], None]


class CannotInstall(Exception):
    """The service cannot be set up or started; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be set up."""

    target: Target
    config: Config
    program: Program
    start: bool


def key_is_kept(target: Target) -> bool:
    """Whether a key for OpenAI lies where the service finds it."""
    return target.key_file.is_file()


def engine_without_key(config: Config) -> EngineConfig | None:
    """An engine that takes its key from wherever tnfd is started, which for a service is nowhere."""
    for engine in config.engines.values():
        named = engine.api_key_file or engine.api_key_env or base_url_of(engine, {})
        if engine.type == "openai" and not named:
            return engine
    return None


def install(wanted: Wanted, environ: Mapping[str, str], say: Say) -> bool:
    """Write the files, and have the manager start it; False: there is no manager to do so now.

    Raises:
        CannotInstall: it was set up and does not start.
        OSError: a file cannot be written.
    """
    target = wanted.target
    _make_folders(wanted)
    rendered = files.files_of(target, wanted.config, wanted.program, key=key_is_kept(target))
    written, aside = files.write_all(rendered)
    for path in aside:
        say(f"kept what was there before as {path}")
    for path in written:
        say(f"wrote {path}")
    if not written:
        say("its files are as they should be")
    manager = manager_of(target, environ)
    state = manager.state()
    if state not in RUNNING:
        _say_what_to_do(target, manager, state, say)
        return False
    if isinstance(manager, Launchd):
        _launch(wanted, manager, say, changed=bool(written))
    else:
        _start(wanted, manager, say, changed=bool(written))
    return True


def _make_folders(wanted: Wanted) -> None:
    """From inside the sandbox they could not be made, or would stay read-only until a restart."""
    config, target = wanted.config, wanted.target
    if target.state_dir != config.daemon.state_dir:
        files.make_folder(config.daemon.state_dir, target, 0o700)
    for inbox in config.inboxes:
        if inbox.output_root is not None:
            files.make_folder(inbox.output_root, target, 0o755)
    if target.mac:
        files.make_folder(target.log_file.parent, target, 0o755)


def _say_what_to_do(target: Target, manager: Systemd | Launchd, state: str, say: Say) -> None:
    if isinstance(manager, Launchd):
        say("launchd does not run for this user here; once it does:")
        say(f"  launchctl bootstrap {manager.domain} {target.unit_file}")
        return
    if state == "":
        say("there is no systemctl here, so nothing starts it. Let your own supervisor run: tnfd run")
        return
    whose = "systemd" if target.system else "this user's systemd"
    say(f'{whose} is not running here (systemctl says "{state}"), so nothing was started. Once it is:')
    say(f"  {manager.command} daemon-reload && {manager.command} enable --now {target.unit}")
    if not target.system:
        say(f"  (it runs in a session of {target.owner.name}, or after: loginctl enable-linger)")


def _start(wanted: Wanted, manager: Systemd, say: Say, *, changed: bool) -> None:
    unit, before = wanted.target.unit, manager.known()
    if changed:
        _must(manager.tell("daemon-reload"), "systemctl daemon-reload")
    if not before.enabled:
        _must(manager.tell("enable", unit), f"systemctl enable {unit}")
        say(f"enabled {unit}: it starts {'at boot' if wanted.target.system else 'when you log in'}")
    if not wanted.start:
        return
    manager.tell("reset-failed", unit)
    active = before.active in ("active", "reloading")
    verb = "start" if not active else "restart" if changed else "reload"
    told = manager.tell(verb, unit, slow=True)
    known = manager.known()
    if told.code or known.active not in ("active", "reloading"):
        raise CannotInstall(_why_not(wanted.target, manager, known.exit_code, told.text, known.result))
    done = {"start": "started it", "restart": "restarted it", "reload": "had it read its configuration anew"}
    say(f"{done[verb]}: {known.text or known.active}")


def _why_not(target: Target, manager: Systemd, exit_code: int | None, text: str, result: str) -> str:
    log = " ".join(manager.log_command(follow=False, lines=20)[:2])
    if exit_code == 78:
        return f"it does not start: a mistake in the configuration; {log} names it"
    if exit_code in (217, 226):
        return (
            f"it does not start: this system cannot build the sandbox (exit {exit_code}). User namespaces may"
            " be switched off: tnfd doctor. The system's service needs none: sudo tnfd service install"
            f" --system --run-as {target.owner.name}"
        )
    said = text.strip().splitlines()[:1]
    return f"it does not start ({result or 'failed'}{': ' + said[0] if said else ''}); {log} says why"


def _launch(wanted: Wanted, manager: Launchd, say: Say, *, changed: bool) -> None:
    loaded = manager.tell("print", manager.name).code == 0
    if loaded and changed:
        manager.tell("bootout", manager.name)
        loaded = False
    if not wanted.start:
        say("it starts at the next login")
        return
    if not loaded:
        manager.tell("enable", manager.name)
        _must(manager.tell("bootstrap", manager.domain, str(wanted.target.unit_file)), "launchctl bootstrap")
    else:
        _must(manager.tell("kickstart", "-k", manager.name), "launchctl kickstart")
    say("restarted it" if loaded else "started it")


def _must(told: object, what: str) -> None:
    code, text = getattr(told, "code", 1), getattr(told, "text", "")
    if code:
        raise CannotInstall(f"{what} failed: {text.strip() or code}")


def uninstall(target: Target, environ: Mapping[str, str], say: Say) -> bool:
    """Stop it and remove its files; False: there was nothing of it.

    Raises:
        OSError: a file cannot be removed.
    """
    there = files.installed(target)
    manager = manager_of(target, environ)
    if not there:
        return False
    if isinstance(manager, Launchd):
        manager.tell("bootout", manager.name)
    elif manager.state() in RUNNING:
        if manager.tell("disable", "--now", target.unit, slow=True).code == 0:
            say(f"stopped and disabled {target.unit}")
    else:
        _unlink_wants(target, say)
    for path in files.remove_all(target):
        say(f"removed {path}")
    if isinstance(manager, Systemd) and manager.state() in RUNNING:
        manager.tell("daemon-reload")
        manager.tell("reset-failed", target.unit)
    return True


def _unlink_wants(target: Target, say: Say) -> None:
    """What ``disable`` does, where no manager is there to do it."""
    for wants in target.unit_file.parent.glob("*.wants"):
        link = wants / target.unit
        if link.is_symlink():
            link.unlink()
            say(f"removed {link}")


def may_write(path: Path) -> bool:
    """Whether this user may put files there, or make the folder for them."""
    folder = next((one for one in path.parents if one.exists()), Path("/"))
    return os.access(folder, os.W_OK)
