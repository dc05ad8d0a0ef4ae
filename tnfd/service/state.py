"""How a service is: set up, enabled, running, and whether its files still fit the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tnfd.config import Config
from tnfd.service import files
from tnfd.service.control import RUNNING, Known, Systemd, manager_of
from tnfd.service.install import key_is_kept
from tnfd.service.sandbox import program_here
from tnfd.service.target import Target

SCHEMA = "tnfd.service/1"


@dataclass(frozen=True, slots=True)
class State:
    """What ``tnfd service status`` says. ``manager``: what the manager says of itself ("": there is none)."""

    target: Target
    manager: str
    known: Known
    installed: tuple[Path, ...]
    outdated: tuple[Path, ...]  # files of ours that would be written otherwise now
    lingers: bool | None

    @property
    def runs(self) -> bool:
        """Whether it runs."""
        return self.known.active in ("active", "reloading")

    def as_json(self) -> dict[str, Any]:
        """The schema tnfd.service/1."""
        known = self.known
        return {
            "schema": SCHEMA,
            "manager": "launchd" if self.target.mac else "systemd",
            "manager_state": self.manager or "missing",
            "system": self.target.system,
            "run_as": self.target.owner.name,
            "unit": self.target.unit,
            "installed": bool(self.installed),
            "enabled": known.enabled,
            "running": self.runs,
            "state": known.active,
            "sub_state": known.sub or None,
            "pid": known.pid,
            "since": known.since or None,
            "text": known.text or None,
            "result": known.result or None,
            "exit_code": known.exit_code,
            "restarts": known.restarts,
            "files": [str(path) for path in self.installed],
            "outdated": [str(path) for path in self.outdated],
            "lingers": self.lingers,
        }

    def lines(self) -> list[tuple[str, str]]:
        """The same for people: label and text."""
        known = self.known
        if not self.installed:
            return [("service", f"{self.target.unit} is not set up: tnfd service install")]
        whose = (
            f"system's, as {self.target.owner.name}"
            if self.target.system
            else f"{self.target.owner.name}'s own"
        )
        pid = f", pid {known.pid}" if known.pid else ""
        since = f", since {known.since}" if known.since and self.runs else ""
        lines = [("service", f"{self.target.unit} ({whose}): {known.active}{pid}{since}")]
        if self.manager not in RUNNING:
            word = "launchd" if self.target.mac else "systemd"
            lines.append(("", f"{word} is not running here, so nothing starts it"))
        if known.text and self.runs:
            lines.append(("says", known.text))
        if known.exit_code == 78:
            lines.append(("ended", "a mistake in the configuration: tnfd config check"))
        elif known.result not in ("", "success"):
            lines.append(("ended", f"{known.result}; tnfd service logs says why"))
        if known.restarts:
            lines.append(("restarts", str(known.restarts)))
        when = "at boot" if self.target.system else "when you log in"
        lines.append(("starts", f"by itself {when}" if known.enabled else "only by hand"))
        if self.lingers is False and not self.target.system:
            lines.append(("", "ends when you log out; to let it run on: loginctl enable-linger"))
        for path in self.installed:
            old = "  <- the configuration has changed: tnfd service install" if path in self.outdated else ""
            lines.append(("file", f"{path}{old}"))
        return lines


def state_of(target: Target, config: Config | None, environ: Mapping[str, str]) -> State:
    """Look at a service. ``config`` None: it has mistakes, and nothing can be compared with it."""
    manager = manager_of(target, environ)
    there = tuple(files.installed(target))
    outdated: tuple[Path, ...] = ()
    if there and config is not None:
        wanted = files.files_of(target, config, program_here(), key=key_is_kept(target))
        outdated = tuple(file.path for file in wanted if files.differs(file))
    running = manager.state()
    return State(
        target=target,
        manager=running,
        known=manager.known() if running in RUNNING else Known(),
        installed=there,
        outdated=outdated,
        lingers=manager.lingers() if isinstance(manager, Systemd) and running in RUNNING else None,
    )
