"""Where things lie: which configuration file is read, the default state folder, and what may lie in what.

The only module of the configuration that looks at folders and key files. Creates and changes nothing.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from tnfd.config.kinds import Origin, absolute
from tnfd.config.schema import Config, EngineConfig
from tnfd.errors import ConfigError, Problem

SYSTEM_FILE = Path("/etc/tnfd/config.toml")
SYSTEM_STATE = Path("/var/lib/tnfd")  # below it a folder for each user (StateDirectory= of tnfd@.service)
_CGROUPS = tuple(map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")))
_SECRET_FOLDER = "/run/secrets"  # noqa: S105  Docker and Kubernetes mount secrets there, readable by all

Finding = tuple[str, str]  # dotted key, what is wrong with the value that stands there


def here(environ: Mapping[str, str]) -> Origin:
    """What relative paths of flags and environment variables start from."""
    return Origin(Path.cwd(), environ)


def home_config(environ: Mapping[str, str]) -> Path:
    """The user's own configuration file, whether or not it exists."""
    base = environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification: a relative path there is invalid and ignored.
    folder = Path(base) if base.startswith("/") else absolute("~/.config", Origin(Path("/"), environ))
    return folder / "tnfd" / "config.toml"


def named_file(flag: Path | None, environ: Mapping[str, str]) -> tuple[Path, str] | None:
    """The file that was asked for by name, and by what; None where the search decides."""
    if flag is not None:
        return absolute(str(flag), here(environ)), "command line"
    if environ.get("TNFD_CONFIG"):
        return absolute(environ["TNFD_CONFIG"], here(environ)), "environment"
    return None


def find_file(flag: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The configuration file that counts; None where there is none to be found, which is fine.

    Raises:
        ConfigError: a file was named, and it is not there.
    """
    named = named_file(flag, environ)
    if named is not None:
        path, where = named
        if not os.path.lexists(path):
            key = "--config" if where == "command line" else "TNFD_CONFIG"
            message = f"there is no such file: {path}; write one with: tnfd init --config {path}"
            raise ConfigError([Problem(where, None, key, message)])
        return path
    # lexists: a file that cannot be read, or a dangling link, is a mistake to report and not to skip.
    return next((path for path in (home_config(environ), SYSTEM_FILE) if os.path.lexists(path)), None)


def default_state_dir(environ: Mapping[str, str]) -> tuple[Path, str]:
    """The state folder where none is configured, and the source of that."""
    # systemd gives a list where several StateDirectory= are set; the first is ours.
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given.startswith("/"):
        return Path(given), "$STATE_DIRECTORY"
    if (made := service_state_dir(environ)) is not None:
        return made, "default, of the system's service"
    base = environ.get("XDG_STATE_HOME", "")
    if base.startswith("/"):
        return Path(base) / "tnfd", "default, below $XDG_STATE_HOME"
    return absolute("~/.local/state/tnfd", Origin(Path("/"), environ)), "default"


def service_state_dir(environ: Mapping[str, str]) -> Path | None:
    """The state folder of the system's service in this user's name; for root the only one that there is."""
    try:
        known = pwd.getpwuid(os.geteuid())
        users = sorted(path.name for path in SYSTEM_STATE.iterdir() if path.is_dir())
    except (KeyError, OSError):
        return None
    if environ.get("HOME") != known.pw_dir:  # somebody plays another user
        return None
    if known.pw_name in users:
        return SYSTEM_STATE / known.pw_name
    return SYSTEM_STATE / users[0] if os.geteuid() == 0 and len(users) == 1 else None


def other_services() -> list[str]:
    """Users in whose names the system's service runs at the moment, but for this one."""
    try:
        own = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # containers run as users that have no name
        own = ""
    running = {
        path.name.removeprefix("tnfd@").removesuffix(".service")
        for top in _CGROUPS
        for path in top.glob("system.slice/system-tnfd.slice/tnfd@*.service")
    }
    return sorted(running - {own})


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def overlaps(config: Config) -> Iterator[Finding]:
    """The state folder in an inbox, an inbox in the state folder, two inboxes on one folder."""
    state_dir = _resolved(config.daemon.state_dir)
    seen: dict[Path, str] = {}
    same: dict[tuple[int, int], str] = {}
    for index, inbox in enumerate(config.inboxes):
        key = f"inbox[{index}].path"
        path = _resolved(inbox.path)
        if path in seen:
            yield key, f'the same folder as the inbox "{seen[path]}": {path}; keep one of them'
        elif (identity := _identity(path)) in same and identity is not None:
            yield key, f'the same folder as the inbox "{same[identity]}", mounted at {path}; keep one of them'
        elif identity is not None:
            same[identity] = inbox.name
        seen.setdefault(path, inbox.name)
        if state_dir.is_relative_to(path):
            message = f"the state folder {config.daemon.state_dir} must not lie inside the inbox {inbox.path}"
            written = config.sources.get("daemon.state_dir", "default")
            yield (key if written.startswith("default") else "daemon.state_dir"), message
        elif path.is_relative_to(state_dir):
            yield key, f"an inbox must not lie inside the state folder {config.daemon.state_dir}"
        output_root = inbox.output_root
        if output_root and _resolved(output_root).is_relative_to(state_dir):
            yield (
                f"inbox[{index}].output_dir",
                f"outputs must not go into the state folder {config.daemon.state_dir}",
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode: what two bind mounts of one folder have in common."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _folder_complaint(path: Path) -> str | None:
    try:
        with os.scandir(path):
            return None
    except FileNotFoundError:
        return f"the folder does not exist: {path}; create it, or correct the path"
    except NotADirectoryError:
        return f"expected a folder, found something else: {path}"
    except PermissionError as error:
        if sys.platform == "darwin" and error.errno == errno.EPERM:  # TCC; permissions would be EACCES
            program = os.path.realpath(sys.executable)
            return (
                f"macOS keeps tnfd out of {path}: allow {program} under Privacy & Security, Full Disk Access"
            )
        return f"the folder cannot be read by this user: {path}"
    except OSError as error:
        return f"the folder cannot be opened: {path}: {error.strerror}"


def folders(config: Config, watched: Collection[Path] = ()) -> Iterator[Finding]:
    """Inboxes that are missing or not readable; files where folders should be. None that is ``watched``."""
    for index, inbox in enumerate(config.inboxes):
        if inbox.path in watched:
            continue
        complaint = _folder_complaint(inbox.path)
        if complaint:
            yield f"inbox[{index}].path", complaint
        if inbox.output_root and inbox.output_root.exists() and not inbox.output_root.is_dir():
            yield f"inbox[{index}].output_dir", f"expected a folder, found a file: {inbox.output_root}"
    state_dir = config.daemon.state_dir
    if state_dir.exists() and not state_dir.is_dir():
        yield "daemon.state_dir", f"expected a folder, found a file: {state_dir}"


def exempt_from_mode(path: Path, environ: Mapping[str, str]) -> bool:
    """Whether a key file may be readable by others: what mounted it there keeps it safe."""
    trusted = [_SECRET_FOLDER]
    if environ.get("CREDENTIALS_DIRECTORY", "").startswith("/"):
        trusted.append(environ["CREDENTIALS_DIRECTORY"])
    # Both ways: /var/run is a link to /run, and below /run/secrets Kubernetes links to its own folders.
    return any(
        Path(os.path.abspath(path)).is_relative_to(folder)
        or _resolved(path).is_relative_to(_resolved(Path(folder)))
        for folder in trusted
    )


def key_file_complaint(path: Path, environ: Mapping[str, str]) -> str | None:
    """Say what is wrong with a key file; names its folder only, in case the key itself was written there."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return f"the key file does not exist (looked in {path.parent})"
    except OSError as error:
        return f"the key file cannot be looked at (in {path.parent}): {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"expected a file with the key in it, found something else (in {path.parent})"
    if found.st_mode & 0o077 and not exempt_from_mode(path, environ):
        mode = stat.S_IMODE(found.st_mode)
        return f"other users may read the key file (mode {mode:04o}); run: chmod 600 {path}"
    return None if os.access(path, os.R_OK) else f"the key file cannot be read by this user: {path}"


def key_files(engines: Mapping[str, EngineConfig], environ: Mapping[str, str]) -> Iterator[Finding]:
    """Key files that are missing, or that other users may read."""
    for name, engine in engines.items():
        if engine.api_key_file is not None:
            complaint = key_file_complaint(engine.api_key_file, environ)
            if complaint:
                yield f"engines.{name}.api_key_file", complaint
