"""Proves the Dockerfile where there is no container engine: its steps, one by one, in a root of Debian's.

The stand-in for the image it builds on is the trixie root of ``machine.py`` with Debian's python3. Each step
runs in a chroot below an overlay that is thrown away; then the entrypoint is started as a container would
start it, given a recording, asked for its health, and stopped. Needs root, and pip's usual way to its
packages. Run by hand:

    python -m tests.systemd.container
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.daemon import tone
from tests.systemd.machine import CHECKOUT, build

DOCKERFILE = CHECKOUT / "packaging/docker/Dockerfile"
UID = 12345
_CERTIFICATES = Path("/etc/ssl/certs")


def pip_here() -> tuple[dict[str, str], list[Path]]:
    """How pip finds its packages on this machine: variables and places. None of it stays in what is built."""
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    variables = {
        name: value
        for name, value in os.environ.items()
        if name in names or name.upper().startswith("PIP_") or name.lower().endswith("_proxy")
    }
    told = run(sys.executable, "-m", "pip", "config", "debug").stdout
    told += run(sys.executable, "-m", "pip", "config", "list").stdout + " ".join(variables.values())
    places = {Path(found) for found in re.findall(r"(?<![\w/])(?:file://)?(/[\w./-]+)", told)}
    wanted = {*places, Path("/etc/resolv.conf"), _CERTIFICATES}
    kept = {path for path in wanted if path.is_file() or (path.is_dir() and path.parts[1] in ("opt", "srv"))}
    kept = {path.parent if path.name == "simple" else path for path in kept} | {_CERTIFICATES}
    return variables, sorted(path for path in kept if not any(one in path.parents for one in kept))


def instructions() -> Iterator[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined."""
    text = re.sub(
        r"\\\n", " ", "\n".join(line for line in DOCKERFILE.read_text().splitlines() if line[:1] != "#")
    )
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        yield word, " ".join(rest.split()) if word != "RUN" else rest.strip()


class Stage:
    """One ``FROM``: a root that the steps change."""

    def __init__(self, base: Path, folder: Path, stack: contextlib.ExitStack) -> None:
        self.root = folder / "root"
        self.environ = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.workdir = "/"
        for part in ("root", "upper", "work"):
            (folder / part).mkdir(parents=True)
        run(
            "mount", "-t", "overlay", "overlay", "-o",
            f"lowerdir={base},upperdir={folder}/upper,workdir={folder}/work", str(self.root),
        )  # fmt: skip
        stack.callback(run, "umount", "-l", str(self.root))
        for name in ("proc", "dev"):
            run("mount", "--rbind", f"/{name}", str(self.root / name))
        self.arguments, places = pip_here()
        for path in places:
            inside = self.root / path.relative_to("/")
            if path.is_dir():
                inside.mkdir(parents=True, exist_ok=True)
            else:
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.touch()
            if path == _CERTIFICATES:  # a copy: installing ca-certificates in there writes into it
                shutil.copytree(path, folder / "certificates", symlinks=False)
                path = folder / "certificates"
            run("mount", "--bind", str(path), str(inside))
            if path.is_relative_to(folder):
                continue
            run("mount", "-o", "remount,bind,ro", str(inside))

    def do(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        inside = ["chroot", str(self.root), "/usr/bin/env", "-i", "-C", self.workdir]
        words = [f"{name}={value}" for name, value in {**self.environ, **self.arguments}.items()]
        return run(*inside, *words, *command, check=check)

    def copy(self, source: Path, target: str) -> None:
        goal = self.root / os.path.normpath(os.path.join(self.workdir, target)).lstrip("/")
        if source.is_dir():
            shutil.copytree(source, goal, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            goal = goal / source.name if target.endswith("/") or goal.is_dir() else goal
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, goal)


def run(*command: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if check and done.returncode:
        raise AssertionError(
            f"{shlex.join(command[-6:])}: {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
        )
    return done  # type: ignore[no-any-return]


def base_of(folder: Path, stack: contextlib.ExitStack) -> Path:
    """The stand-in for the image that the Dockerfile builds on."""
    base = Stage(build("trixie"), folder, stack)
    base.environ["DEBIAN_FRONTEND"] = "noninteractive"
    base.do("apt-get", "update", "-qq")
    base.do("apt-get", "install", "-qq", "--no-install-recommends", "python3", "python3-venv")
    return base.root


def build_image(folder: Path, stack: contextlib.ExitStack) -> tuple[Stage, list[str], list[str]]:
    """Do every step; return the last stage, its entrypoint and its health check."""
    base = base_of(folder / "base", stack)
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    entrypoint: list[str] = []
    health: list[str] = []
    for word, rest in instructions():
        print(f"{word} {rest}"[:100])
        if word == "FROM":
            stage = Stage(base, folder / f"stage-{len(stages)}", stack)
            stages[rest.partition(" AS ")[2] or str(len(stages))] = stage
            continue
        assert stage is not None
        if word == "ARG":
            name, _, value = rest.partition("=")
            stage.arguments[name] = value.strip('"')
        elif word == "WORKDIR":
            stage.workdir = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "ENV":
            stage.environ |= dict(part.partition("=")[::2] for part in shlex.split(rest))
        elif word == "COPY":
            *sources, target = shlex.split(rest)
            other = stages[sources.pop(0).partition("=")[2]] if sources[0].startswith("--from=") else None
            for source in sources:
                stage.copy(other.root / source.lstrip("/") if other else CHECKOUT / source, target)
        elif word == "RUN":
            stage.do("/bin/sh", "-c", rest)
        elif word == "ENTRYPOINT":
            entrypoint = json.loads(rest)
        elif word == "CMD":
            entrypoint += json.loads(rest)
        elif word == "HEALTHCHECK":
            health = json.loads(rest.partition(" CMD ")[2])
        else:
            assert word in ("VOLUME", "STOPSIGNAL"), word
    assert stage is not None
    told = stage.do("/opt/tnfd/bin/python3", "-m", "pip", "list", "--format=freeze").stdout.split()
    print("installed:", *told)
    stage.arguments.clear()
    return stage, entrypoint, health


def prove() -> None:
    """Build, start, look, stop."""
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="tnfd-container-", dir="/var/tmp"))
        )
        image, entrypoint, health = build_image(folder, stack)
        inbox = image.root / "inbox"
        os.chown(inbox, UID, UID)
        (image.root / "run/secrets").mkdir(parents=True)
        (image.root / "run/secrets/openai-api-key").write_text("sk-test-0123456789\n")
        server = subprocess.Popen(
            [sys.executable, "-m", "tnfd.testing.api_server", "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(server.terminate)
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        image.environ |= {"PUID": str(UID), "PGID": str(UID), "TNFD_ENGINE": "openai", "OPENAI_BASE_URL": url}
        image.environ |= {"TNFD_MODEL": "whisper-1", "TNFD_WATCH": "scan"}
        words = [f"{name}={value}" for name, value in image.environ.items()]
        with (folder / "log").open("w") as log:
            daemon = subprocess.Popen(
                ["chroot", str(image.root), "/usr/bin/env", "-i", *words, *entrypoint], stderr=log,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        try:
            print(f"started: {shlex.join(entrypoint)}")
            wait(lambda: "daemon.ready" in (folder / "log").read_text(), folder / "log")
            tone(folder / "talk.wav")
            shutil.move(folder / "talk.wav", inbox / "talk.wav")
            wait((inbox / "talk.txt").exists, folder / "log")
            owner = (inbox / "talk.txt").stat().st_uid
            assert owner == UID, owner
            print(f"transcribed by scanning alone; talk.txt belongs to {owner}")
            done = image.do(*health, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            print(f"health: {shlex.join(health)}: exit {done.returncode}")
        finally:
            began = time.monotonic()
            daemon.terminate()
            code = daemon.wait(60)
        print(f"stopped: exit {code} after {time.monotonic() - began:.1f} s")
        assert code == 0


def wait(fact: object, log: Path) -> None:
    limit = time.monotonic() + 90
    while not fact():  # type: ignore[operator]
        assert time.monotonic() < limit, log.read_text()[-3000:]
        time.sleep(0.2)


if __name__ == "__main__":
    if os.environ.get("TNFD_CONTAINER_NS") != "own":  # mounts of its own, gone with the process
        os.execvpe(
            "unshare",
            [
                "unshare",
                "--mount",
                "--propagation",
                "private",
                sys.executable,
                "-m",
                "tests.systemd.container",
            ],
            {**os.environ, "TNFD_CONTAINER_NS": "own"},
        )
    prove()
