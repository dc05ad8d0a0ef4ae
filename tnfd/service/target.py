"""Whose service it is and where its files lie: a user's own, or the system's in a user's name."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

MARK = "Written by tnfd service install"  # stands in every file of ours, and in no other
LABEL = "local.tnfd"  # launchd's name for it, and its file's


@dataclass(frozen=True, slots=True)
class Owner:
    """The user as whom it runs."""

    name: str
    uid: int
    gid: int
    home: Path


@dataclass(frozen=True, slots=True)
class Target:
    """One service. ``system``: started at boot by the system's manager; else by the user's own.

    ``config_home``: $XDG_CONFIG_HOME of the owner.
    """

    owner: Owner
    system: bool
    config_home: Path
    mac: bool = False

    @property
    def unit(self) -> str:
        """What the manager calls it."""
        if self.mac:
            return LABEL
        return f"tnfd@{self.owner.name}.service" if self.system else "tnfd.service"

    @property
    def unit_file(self) -> Path:
        """The file that describes it; the system's is a template for every user."""
        if self.mac:
            base = Path("/Library/LaunchDaemons") if self.system else self.owner.home / "Library/LaunchAgents"
            return base / f"{LABEL}.plist"
        return self._units / ("tnfd@.service" if self.system else "tnfd.service")

    @property
    def drop_ins(self) -> Path:
        """The folder of what is added to it (systemd alone)."""
        return self._units / f"{self.unit}.d"

    @property
    def sandbox_file(self) -> Path:
        """The rendered drop-in with the folders."""
        return self.drop_ins / "sandbox.conf"

    @property
    def credential_file(self) -> Path:
        """The rendered drop-in that hands the key over (a user's own service alone)."""
        return self.drop_ins / "credential.conf"

    @property
    def key_file(self) -> Path:
        """Where the key is kept that was asked for."""
        if self.system and not self.mac:
            return Path("/etc/credstore/openai-api-key")  # systemd.exec(5): LoadCredential= without a path
        return self.config_home / "tnfd" / "openai-api-key"

    @property
    def log_file(self) -> Path:
        """Where launchd writes the log."""
        return Path("/Library/Logs/tnfd.log") if self.system else self.owner.home / "Library/Logs/tnfd.log"

    @property
    def state_dir(self) -> Path | None:
        """The state folder that the manager makes; None: the default one."""
        return Path("/var/lib/tnfd") / self.owner.name if self.system and not self.mac else None

    @property
    def _units(self) -> Path:
        return Path("/etc/systemd/system") if self.system else self.config_home / "systemd" / "user"


def owner_named(name: str) -> Owner:
    """Look a user up.

    Raises:
        KeyError: there is no such user.
    """
    found = pwd.getpwnam(name)
    return Owner(found.pw_name, found.pw_uid, found.pw_gid, Path(found.pw_dir))


def own_target(environ: Mapping[str, str]) -> Target:
    """The service of whoever runs this."""
    found = pwd.getpwuid(os.geteuid())
    home = Path(environ.get("HOME") or found.pw_dir)
    base = environ.get("XDG_CONFIG_HOME", "")
    config_home = Path(base) if base.startswith("/") else home / ".config"
    owner = Owner(found.pw_name, found.pw_uid, found.pw_gid, home)
    return Target(owner, system=False, config_home=config_home, mac=sys.platform == "darwin")


def system_target(name: str) -> Target:
    """The system's service in the name of a user.

    Raises:
        KeyError: there is no such user.
    """
    owner = owner_named(name)
    return Target(owner, system=True, config_home=owner.home / ".config", mac=sys.platform == "darwin")


def environ_of(target: Target, environ: Mapping[str, str]) -> dict[str, str]:
    """What the service will read its configuration with: its user's home, none of our variables.

    A service does not see the variables of the terminal that installs it.
    """
    kept = {"HOME": str(target.owner.home), "USER": target.owner.name}
    if target.state_dir is not None:
        kept["STATE_DIRECTORY"] = str(target.state_dir)
    if not target.system:
        kept |= {name: value for name, value in environ.items() if name.startswith("XDG_")}
    return kept


def for_linux(target: Target) -> Target:
    """The same one under systemd (its files are also made elsewhere, to be looked at)."""
    return replace(target, mac=False)
