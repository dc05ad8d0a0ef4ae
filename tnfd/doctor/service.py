"""The service: set up, enabled, running, up to date; its sandbox to be had, its key kept from others."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tnfd.config import Config
from tnfd.config.places import find_file
from tnfd.doctor.finding import Finding, Mark
from tnfd.errors import ConfigError
from tnfd.service.files import config_named, installed, instances
from tnfd.service.install import engine_without_key
from tnfd.service.state import State, state_of
from tnfd.service.target import Target, own_target, system_target

_AREA = "service"
_LIMIT_S = 5.0


def service_here(environ: Mapping[str, str]) -> Target:
    """The service that matters to whoever asks: one's own, else the system's in one's name or the only."""
    own = own_target(environ)
    if installed(own) or own.mac:
        return own
    names = instances()
    name = own.owner.name if own.owner.name in names else names[0] if len(names) == 1 else ""
    try:
        return system_target(name) if name else own
    except KeyError:
        return own


def service_environ(target: Target, environ: Mapping[str, str]) -> dict[str, str]:
    """What engines see of the keys that are kept for a service."""
    if target.credential_file.exists() and os.access(target.key_file, os.R_OK):
        return {**environ, "CREDENTIALS_DIRECTORY": str(target.key_file.parent)}
    return dict(environ)


def check_service(
    target: Target, config: Config, environ: Mapping[str, str], *, running: bool
) -> Iterator[Finding]:
    """Everything about the service; ``running``: a daemon answers, whoever started it."""
    if not installed(target):
        yield Finding(_AREA, Mark.OK, "not set up; tnfd service install lets tnfd run by itself")
        return
    state = state_of(target, config, environ)
    yield _activity(state, running=running)
    yield from _setup(state)
    yield from _same_file(target, config, environ)
    yield from _key(target, config)


def _activity(state: State, *, running: bool) -> Finding:
    unit, known, user = state.target.unit, state.known, "" if state.target.system else "--user "
    waits = "files in the inboxes wait until it runs"
    if state.runs:
        restarts = f", started anew {known.restarts} times after it had ended" if known.restarts else ""
        if known.restarts > 3:
            why = "something ends it again and again"
            return Finding(_AREA, Mark.WARN, f"{unit} runs{restarts}", why, "tnfd service logs -n 200")
        return Finding(_AREA, Mark.OK, f"{unit} runs (pid {known.pid}){restarts}")
    if known.exit_code == 78:
        what = f"{unit} has ended: a mistake in the configuration"
        mend = f"tnfd config check && {_sudo(state.target)}systemctl {user}restart {unit}"
        return Finding(_AREA, Mark.FAIL, what, "it is not started again before that is mended", mend)
    if known.exit_code in (217, 226):
        why = "user namespaces may be switched off; the system's service needs none"
        mend = f"sudo tnfd service install --system --run-as {state.target.owner.name}"
        return Finding(_AREA, Mark.FAIL, f"{unit} cannot build its sandbox ({known.exit_code})", why, mend)
    if known.active == "failed":
        mend = "tnfd service logs -n 50"
        return Finding(_AREA, Mark.FAIL, f"{unit} has failed: {known.result}", waits, mend)
    if running:
        why = "the service cannot start while another daemon holds the state folder"
        mend = "stop the other one (tnfd status names its pid), then: tnfd service install"
        return Finding(_AREA, Mark.WARN, f"{unit} does not run, but a daemon does", why, mend)
    return Finding(_AREA, Mark.WARN, f"{unit} is set up and does not run", waits, "tnfd service install")


def _setup(state: State) -> Iterator[Finding]:
    target = state.target
    for path in state.outdated:
        why = "folders that are new in the configuration are not there for it, or cannot be written to"
        yield Finding(
            _AREA, Mark.WARN, f"{path} is older than the configuration", why, _sudo(target) + _install(target)
        )
    if state.runs and not state.known.enabled:
        why = "it does not start by itself after the next boot"
        yield Finding(
            _AREA, Mark.WARN, f"{target.unit} is not enabled", why, _sudo(target) + _install(target)
        )
    if state.lingers is False and not target.system:
        why = "a user's service ends when its user logs out"
        yield Finding(
            _AREA, Mark.WARN, f"{target.owner.name}'s services do not linger", why, "loginctl enable-linger"
        )


def _same_file(target: Target, config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        found = config_named(target) or find_file(None, {**environ, "TNFD_CONFIG": ""})
    except ConfigError:
        return
    if found is not None and config.file is not None and found != config.file:
        what = f"it reads {found}, and this command has looked at {config.file}"
        why = "what is found here may not be so for the service"
        yield Finding(_AREA, Mark.WARN, what, why, f"tnfd doctor --config {found}")


def _key(target: Target, config: Config) -> Iterator[Finding]:
    path = target.key_file
    try:
        found = path.stat()
    except FileNotFoundError:
        if engine_without_key(config) is not None:
            why = "a service does not see the variables of a terminal"
            yield Finding(_AREA, Mark.FAIL, "no key is kept for it", why, _sudo(target) + _install(target))
        return
    except OSError:
        return  # root's alone, as it should be
    if stat.S_IMODE(found.st_mode) & 0o077:
        what = f"others may read the key file {path} (mode {stat.S_IMODE(found.st_mode):04o})"
        yield Finding(_AREA, Mark.FAIL, what, "whoever has the key spends your money", f"chmod 600 {path}")


def check_sandbox(status: str = "/proc/self/status") -> Iterator[Finding]:
    """What the walls around the service and around its children are made of."""
    area = "sandbox"
    try:
        text = Path(status).read_text()
    except OSError:
        return  # not Linux
    if "\nSeccomp:" not in text:
        why = "what opens recordings runs without its filter; memory and time stay bounded"
        yield Finding(
            area, Mark.WARN, "this kernel has no seccomp", why, "uname -r   # a newer kernel has it"
        )
    else:
        yield Finding(area, Mark.OK, "seccomp filters are to be had")
    unshare = shutil.which("unshare")
    if unshare is None:
        return
    try:
        done = subprocess.run([unshare, "--user", "true"], capture_output=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    if done.returncode == 0:
        yield Finding(area, Mark.OK, "user namespaces are to be had")
    else:
        why = "a user's own service cannot hide the rest of the home from what opens recordings"
        mend = "sudo tnfd service install --system --run-as $USER"
        yield Finding(area, Mark.WARN, "user namespaces are switched off here", why, mend)


def _sudo(target: Target) -> str:
    return "sudo " if target.system else ""


def _install(target: Target) -> str:
    return "tnfd service install" + (f" --system --run-as {target.owner.name}" if target.system else "")
