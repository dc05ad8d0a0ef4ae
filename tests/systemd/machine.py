"""A machine with a real systemd for the tests: Debian's packages unpacked, booted in a container.

Needs Linux, root, dpkg and apt, and a mirror that answers once. Nothing on the host is installed or
changed: all of it lies below ``$TNFD_SYSTEMD_HOME`` (/var/tmp/tnfd-systemd). The container has a network of
its own with nothing in it but loopback, and is thrown away when it is powered off. Inside, tnfd runs from
this checkout and with the Python that the tests run with: see ``Program``.

    python -m tests.systemd.machine build [SUITE...]   trixie (systemd 257), bookworm (systemd 252)
    python -m tests.systemd.machine clean
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SUITES = {"trixie": 257, "bookworm": 252}
CHECKOUT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("TNFD_SYSTEMD_HOME", "/var/tmp/tnfd-systemd"))
INSIDE = "/opt/tnfd"  # where tnfd, its libraries and its Python lie inside
_PACKAGES = ("systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MIRROR_S, _DOWNLOAD_S, _BUILD_S, _BOOT_S, _DOWN_S = 15, 120, 420, 90, 30
_SIGRTMIN_PLUS_4 = signal.SIGRTMIN + 4  # systemd(1): power off
_READABLE = 0o755
_TRY_LATER = 75
_TOOLS = threading.Lock()


class Unavailable(Exception):
    """This machine cannot boot one; the text says what is missing."""


def why_not() -> str:
    """What keeps this machine from building and booting one; empty: nothing that can be seen."""
    if sys.platform != "linux":
        return "it needs Linux"
    if os.geteuid() != 0:
        return "it needs root"
    missing = [name for name in ("dpkg", "apt-get", "dpkg-query", "nsenter") if shutil.which(name) is None]
    return f"it needs {' and '.join(missing)}" if missing else ""


# -- what it is built of ----------------------------------------------------------------------------------


def _run(
    *command: str | Path, limit_s: float, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Run a command to its end.

    Raises:
        Unavailable: it failed or took too long; with the end of what it said.
    """
    try:
        done = subprocess.run(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=limit_s, check=False,
            env=None if env is None else {**os.environ, **env}, cwd=cwd,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} has not ended after {limit_s:.0f} s") from None
    except OSError as error:
        raise Unavailable(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        raise Unavailable(f"{Path(command[0]).name} failed ({done.returncode}): {done.stdout.strip()[-600:]}")
    return done.stdout


def mirror_of() -> str:
    """The Debian mirror that this machine's apt uses.

    Raises:
        Unavailable: there is none.
    """
    folder = Path("/etc/apt")
    for file in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        with contextlib.suppress(OSError):
            for line in file.read_text(errors="replace").splitlines():
                found = re.match(r"(?:URIs:|deb(?: \[[^]]*\])?)\s+(https?://\S+)", line)
                if found and "debian" in found[1] and "security" not in found[1]:
                    return found[1].rstrip("/")
    raise Unavailable("apt knows no mirror of Debian")


def _check_mirror(mirror: str, suite: str) -> None:
    try:
        with urllib.request.urlopen(f"{mirror}/dists/{suite}/InRelease", timeout=_MIRROR_S) as answer:  # noqa: S310
            answer.read(1)
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise Unavailable(f"the mirror does not answer for {suite}: {error}") from None


def _tool(name: str, path: str, *packages: str) -> tuple[Path, Path | None]:
    """A program of the host, or one unpacked from Debian's packages; and where those were unpacked."""
    if (found := shutil.which(name)) is not None:
        return Path(found), None
    unpacked = HOME / "tools"
    if not (unpacked / path).exists():
        debs = HOME / "debs"
        debs.mkdir(exist_ok=True)
        try:
            _run("apt-get", "download", *packages, limit_s=_DOWNLOAD_S, cwd=debs)
        except Unavailable:  # the lists may be missing, as in most containers, or name what is gone by now
            _run("apt-get", "update", limit_s=_DOWNLOAD_S)
            _run("apt-get", "download", *packages, limit_s=_DOWNLOAD_S, cwd=debs)
        for deb in debs.glob("*.deb"):
            _run("dpkg", "-x", deb, unpacked, limit_s=_DOWNLOAD_S)
            deb.unlink()
    return unpacked / path, unpacked


def _nspawn() -> tuple[Path, dict[str, str]]:
    """systemd-nspawn, and the environment that it needs: its library is of the very same version."""
    path, unpacked = _tool(
        "systemd-nspawn", "usr/bin/systemd-nspawn", "systemd-container", "libsystemd-shared"
    )
    if unpacked is None:
        return path, {}
    folders = [str(folder) for folder in unpacked.glob("usr/lib/*/systemd")]
    return path, {"LD_LIBRARY_PATH": ":".join([*folders, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])}


def build(suite: str) -> Path:
    """Build the root file system of a suite where there is none yet; about a minute.

    Raises:
        Unavailable: it cannot be built here.
    """
    if reason := why_not():
        raise Unavailable(reason)
    HOME.mkdir(mode=_READABLE, parents=True, exist_ok=True)
    root = HOME / f"root-{suite}"
    with (HOME / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes may want it at once
        return root if root.exists() else _build(suite, root)


def _build(suite: str, root: Path) -> Path:
    mirror = mirror_of()
    _check_mirror(mirror, suite)
    with _TOOLS:
        debootstrap, unpacked = _tool("debootstrap", "usr/sbin/debootstrap", "debootstrap")
    env = {"DPKG_FORCE": "unsafe-io"}  # thrown away if the machine loses power meanwhile
    if unpacked is not None:
        env["DEBOOTSTRAP_DIR"] = str(unpacked / "usr/share/debootstrap")
    growing = HOME / f".root-{suite}"
    shutil.rmtree(growing, ignore_errors=True)
    keyring = [f"--keyring={_KEYRING}"] if Path(_KEYRING).exists() else []
    wanted = f"--include={','.join(_PACKAGES)}"
    _run(
        debootstrap, "--variant=minbase", *keyring, wanted, suite, growing, mirror, limit_s=_BUILD_S, env=env
    )
    shutil.rmtree(growing / "var/cache/apt/archives", ignore_errors=True)
    growing.rename(root)
    return root


# -- tnfd inside ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Program:
    """tnfd as it lies inside the machine, in a folder that every user may read.

    Nothing is installed there. The interpreter's program and library are copied, its modules, the libraries
    of this virtual environment are bound read-only, the package is copied; shared libraries that the root
    lacks are copied beside them. Paths of this machine (a home that nobody else may enter) do not show.
    """

    folder: Path
    binds: tuple[tuple[Path, str], ...]

    @classmethod
    def prepare(cls, root: Path, folder: Path) -> Program:
        """Lay it out in ``folder``, for a machine whose root is ``root``."""
        shutil.rmtree(folder, ignore_errors=True)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        python, venv = folder / "python", folder / "venv"
        for part in (
            python / "bin",
            python / "lib" / version,
            venv / "bin",
            folder / "packages",
        ):
            part.mkdir(mode=_READABLE, parents=True)
        # A copy: the checkout may be edited meanwhile.
        shutil.copytree(CHECKOUT / "tnfd", folder / "src" / "tnfd")
        binary = Path(sys.executable).resolve()
        shutil.copy2(binary, python / "bin" / version)
        _copy_libraries(binary, root, python / "lib")
        (venv / "bin" / "python3").symlink_to(f"{INSIDE}/python/bin/{version}")
        (venv / "pyvenv.cfg").write_text(
            f"home = {INSIDE}/python/bin\ninclude-system-site-packages = false\n"
            f"version = {platform.python_version()}\n"
        )
        site = venv / "lib" / version / "site-packages"
        site.mkdir(mode=_READABLE, parents=True)
        (site / "tnfd.pth").write_text(f"{INSIDE}/src\n{INSIDE}/packages\n")
        command = venv / "bin" / "tnfd"
        command.write_text(
            f"#!{INSIDE}/venv/bin/python3\nimport sys\nfrom tnfd.cli import main\nsys.exit(main())\n"
        )
        command.chmod(_READABLE)
        binds = [
            (folder, INSIDE),
            (Path(sysconfig.get_path("stdlib")), f"{INSIDE}/python/lib/{version}"),
            (Path(sysconfig.get_path("platlib")), f"{INSIDE}/packages"),
        ]
        return cls(folder, tuple(binds))


def _copy_libraries(binary: Path, root: Path, into: Path) -> None:
    """Copy the shared libraries of Python and its modules that the root does not have."""
    modules = Path(sysconfig.get_config_var("DESTSHARED")).glob("*.so")
    have = {
        path.name for folder in ("usr/lib", "lib") for path in Path(root, folder).glob("*-linux-gnu/*.so*")
    }
    for file in (binary, *modules):
        told = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False).stdout
        for name, path in re.findall(r"^\s*(\S+) => (/\S+)", told, re.MULTILINE):
            if name not in have and not (into / name).exists():
                shutil.copy2(os.path.realpath(path), into / name)


# -- the machine ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Machine:
    """A booted machine; ``run`` runs commands inside as root."""

    suite: str
    leader: int
    process: subprocess.Popen[bytes]
    console: Path
    boot_s: float = field(default=0.0)

    def run(
        self,
        *command: str,
        check: bool = True,
        limit_s: float = 60,
        user: str = "",
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; as ``user``, with what a session of that user has, or as root."""
        given = {
            "PATH": f"{INSIDE}/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "dumb", "SYSTEMD_PAGER": "",
            "LANG": "C.UTF-8", "HOME": "/root",
        }  # fmt: skip
        if user:
            uid = self.run("id", "-u", user).stdout.strip()
            home = f"/home/{user}"
            given |= {"HOME": home, "USER": user, "LOGNAME": user, "XDG_RUNTIME_DIR": f"/run/user/{uid}"}
        words = [f"{name}={value}" for name, value in {**given, **(env or {})}.items()]
        become = ["/usr/sbin/runuser", "-u", user, "--"] if user else []
        whole = [
            "nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "--", "/usr/bin/env", "-i",
            *words, *become, *command,
        ]  # fmt: skip
        done = subprocess.run(
            whole, input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, capture_output=True,
            text=True, errors="replace", timeout=limit_s, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def sh(self, script: str, **options: object) -> str:
        """Run a shell script inside and return what it prints."""
        return self.run("/bin/sh", "-euc", script, **options).stdout  # type: ignore[arg-type]


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@contextlib.contextmanager
def booted(suite: str, binds: Sequence[tuple[Path, str]] = ()) -> Iterator[Machine]:
    """Boot a suite's machine, power it off afterwards.

    Raises:
        Unavailable: it cannot be built or booted here.
    """
    root = build(suite)
    nspawn, env = _nspawn()
    running = HOME / f"run-{suite}-{os.getpid()}"
    shutil.rmtree(running, ignore_errors=True)
    running.mkdir(mode=_READABLE)
    program = Program.prepare(root, running / "tnfd")
    options = [f"--bind-ro={path}:{inside}" for path, inside in program.binds]
    options += [f"--bind={path}:{inside}" for path, inside in binds]
    console = running / "console.log"
    began = time.monotonic()
    with console.open("wb") as log:
        process = subprocess.Popen(
            [
                nspawn, "-q", "-D", root, "--volatile=overlay", "--boot",
                f"--machine=tnfd-{suite}-{os.getpid()}", "--register=no", "--keep-unit",
                "--private-network", "--link-journal=no", "--console=pipe",
                *options,
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, **env, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )  # fmt: skip
    machine = Machine(suite, 0, process, console)
    try:
        _await_boot(machine, began + _BOOT_S)
        machine.boot_s = time.monotonic() - began
        machine.run("/sbin/ldconfig", f"{INSIDE}/python/lib", check=False)
        probe = machine.run("tnfd", "--version", check=False)
        if probe.returncode:
            raise Unavailable(f"this Python does not run inside {suite}: {probe.stderr.strip()[-300:]}")
        yield machine
    finally:
        _power_off(machine)
        shutil.rmtree(running, ignore_errors=True)


def _await_boot(machine: Machine, until: float) -> None:
    state = ""
    while time.monotonic() < until:
        if machine.process.poll() is not None:
            raise Unavailable(f"systemd-nspawn: {machine.console.read_text(errors='replace').strip()[-600:]}")
        machine.leader = machine.leader or next(iter(_children(machine.process.pid)), 0)
        if machine.leader:
            state = machine.run("systemctl", "is-system-running", check=False).stdout.strip()
            if state in ("running", "degraded"):
                return
        time.sleep(0.1)
    said = machine.console.read_text(errors="replace").strip()[-600:]
    raise Unavailable(f"it does not boot within {_BOOT_S} s ({state or 'no answer'}): {said}")


def _power_off(machine: Machine) -> None:
    with contextlib.suppress(ProcessLookupError):
        if machine.leader:
            os.kill(machine.leader, _SIGRTMIN_PLUS_4)
    try:
        machine.process.wait(_DOWN_S if machine.leader else 0)
    except subprocess.TimeoutExpired:
        machine.process.kill()
        machine.process.wait()


def clean() -> None:
    """Remove everything that was built; what is mounted stays."""
    shutil.rmtree(HOME, ignore_errors=True)


def main(arguments: Sequence[str]) -> int:
    """Build or clean, and say what came of it."""
    if arguments[:1] == ["clean"]:
        clean()
        return 0
    if arguments[:1] != ["build"]:
        print(__doc__)
        return 2
    suites = list(arguments[1:] or SUITES)
    if reason := why_not():
        print(reason)
        return _TRY_LATER
    began = time.monotonic()
    code = 0
    with concurrent.futures.ThreadPoolExecutor(len(suites)) as pool:  # each waits for its packages
        for suite, built in [(suite, pool.submit(build, suite)) for suite in suites]:
            try:
                print(f"{suite}: {built.result()} ({time.monotonic() - began:.0f} s)")
            except Unavailable as reason:
                print(f"{suite}: {reason}")
                code = _TRY_LATER
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
