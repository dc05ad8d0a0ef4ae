"""What systemctl and launchctl are asked and told. Their answers become records; nothing is decided here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tnfd.service.launchd import domain_of
from tnfd.service.target import LABEL, Target

_QUICK_S, _SLOW_S = 15.0, 180.0
RUNNING = ("running", "degraded", "starting", "initializing")


@dataclass(frozen=True, slots=True)
class Told:
    """What a command of the manager said; ``code`` 127: there is none."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the manager knows of the service. ``since``: as it writes moments."""

    active: str = "inactive"  # active, reloading, inactive, failed, activating, deactivating
    sub: str = ""
    enabled: bool = False
    pid: int | None = None
    text: str = ""  # what the daemon says of itself
    result: str = ""
    exit_code: int | None = None
    restarts: int = 0
    since: str = ""


class Systemd:
    """systemctl, for one service."""

    def __init__(self, target: Target, environ: Mapping[str, str]) -> None:
        self._target = target
        self._environ = dict(environ)
        runtime = f"/run/user/{target.owner.uid}"
        if not target.system and "XDG_RUNTIME_DIR" not in environ and Path(runtime).is_dir():
            self._environ["XDG_RUNTIME_DIR"] = runtime  # su and sudo do not set it
        self._environ["SYSTEMD_PAGER"] = ""

    @property
    def command(self) -> str:
        """What people type."""
        return "sudo systemctl" if self._target.system else "systemctl --user"

    def state(self) -> str:
        """What ``is-system-running`` says; "" where there is no systemctl; "offline" where nothing runs."""
        told = self.tell("is-system-running")
        if told.code == 127:
            return ""
        word = told.text.strip().splitlines()[0] if told.text.strip() else "offline"
        return word if re.fullmatch(r"[a-z]+", word) else "offline"

    def tell(self, *words: str, slow: bool = False) -> Told:
        """Run systemctl."""
        own = [] if self._target.system else ["--user"]
        return _run(["systemctl", *own, *words], self._environ, _SLOW_S if slow else _QUICK_S)

    def known(self) -> Known:
        """What it knows of the service."""
        wanted = "ActiveState,SubState,MainPID,StatusText,Result,ExecMainStatus,NRestarts,UnitFileState"
        told = self.tell("show", self._target.unit, f"--property={wanted},ActiveEnterTimestamp")
        if told.code:
            return Known()
        found = dict(line.partition("=")[::2] for line in told.text.splitlines())

        def number(name: str) -> int:
            return int(found[name]) if found.get(name, "").isdigit() else 0

        return Known(
            active=found.get("ActiveState") or "inactive",
            sub=found.get("SubState", ""),
            enabled=found.get("UnitFileState", "").startswith("enabled"),
            pid=number("MainPID") or None,
            text=found.get("StatusText", ""),
            result=found.get("Result", ""),
            exit_code=number("ExecMainStatus") if found.get("Result") == "exit-code" else None,
            restarts=number("NRestarts"),
            since=found.get("ActiveEnterTimestamp", ""),
        )

    def lingers(self) -> bool | None:
        """Whether the user's services run while nobody is logged in; None: not known."""
        told = _run(
            ["loginctl", "show-user", self._target.owner.name, "--property=Linger", "--value"],
            self._environ, _QUICK_S,
        )  # fmt: skip
        if told.code == 0:
            return told.text.strip() == "yes"
        # loginctl knows only who is logged in; the file is what it goes by.
        folder = Path("/var/lib/systemd/linger")
        return (folder / self._target.owner.name).exists() if folder.is_dir() else None

    def log_command(self, *, follow: bool, lines: int) -> list[str]:
        """What shows the log."""
        unit = (
            [f"--unit={self._target.unit}"] if self._target.system else [f"--user-unit={self._target.unit}"]
        )
        return [
            "journalctl",
            *unit,
            f"--lines={lines}",
            "--output=cat",
            "--no-pager",
            *(["-f"] if follow else []),
        ]


class Launchd:
    """launchctl, for one service."""

    def __init__(self, target: Target, environ: Mapping[str, str]) -> None:
        self._target = target
        self._environ = dict(environ)
        self.domain = domain_of(target)
        self.name = f"{self.domain}/{LABEL}"

    def state(self) -> str:
        """Return "running", or why not: "" without launchctl; "offline" without a session of that user."""
        told = self.tell("print", self.domain)
        return "" if told.code == 127 else "running" if told.code == 0 else "offline"

    def tell(self, *words: str) -> Told:
        """Run launchctl."""
        return _run(["launchctl", *words], self._environ, _SLOW_S)

    def known(self) -> Known:
        """What it knows of the service (launchctl print is for people; three lines are all we take)."""
        return parse_print(self.tell("print", self.name))

    def log_command(self, *, follow: bool, lines: int) -> list[str]:
        """What shows the log; -F goes on when it is rotated."""
        return ["tail", "-n", str(lines), *(["-F"] if follow else []), str(self._target.log_file)]


def parse_print(told: Told) -> Known:
    """Read what ``launchctl print`` says of a job."""
    if told.code:
        return Known()
    found = dict(re.findall(r"^\t(state|pid|last exit code) = (.*)$", told.text, re.MULTILINE))
    pid, code = found.get("pid", ""), found.get("last exit code", "")
    running = found.get("state") == "running"
    return Known(
        active="active" if running else "inactive",
        sub=found.get("state", ""),
        enabled=True,
        pid=int(pid) if pid.isdigit() else None,
        exit_code=int(code) if code.isdigit() else None,
    )


def manager_of(target: Target, environ: Mapping[str, str]) -> Systemd | Launchd:
    """The service manager of a service."""
    return Launchd(target, environ) if target.mac else Systemd(target, environ)


def _run(command: list[str], environ: Mapping[str, str], limit_s: float) -> Told:
    path = environ.get("PATH") or os.defpath
    if (program := shutil.which(command[0], path=path)) is None:
        return Told(127, "")
    try:
        done = subprocess.run(
            [program, *command[1:]], env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=limit_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Told(124, f"{command[0]} does not answer")
    except OSError as error:
        return Told(126, error.strerror or "")
    return Told(done.returncode, done.stdout)
