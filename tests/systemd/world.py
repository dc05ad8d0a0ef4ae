"""What the tests find inside: users, folders, a server that speaks the API; and how they look at it."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.systemd.machine import INSIDE, Machine

T = TypeVar("T")

PATIENCE_S = 60.0
API = "http://127.0.0.1:8123/v1"
KEY = "sk-test-0123456789abcdef"
_MAKE_WAV = """
import random, struct, sys, wave
name, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
period = [chance.randint(-4000, 4000) for _ in range(chance.randint(80, 400))]
count = int(seconds * 16000)
samples = (period * (count // len(period) + 1))[:count]
with wave.open(name, "wb") as file:
    file.setnchannels(1); file.setsampwidth(2); file.setframerate(16000)
    file.writeframes(struct.pack(f"<{count}h", *samples))
"""


def until(fact: Callable[[], T | None], what: str, limit_s: float = PATIENCE_S) -> T:
    """Return what ``fact()`` returns once that is true."""
    limit = time.monotonic() + limit_s
    while not (found := fact()):
        if time.monotonic() > limit:
            raise AssertionError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.1)
    return found


@dataclass(slots=True)
class World:
    """A machine with alice and bob."""

    machine: Machine

    def populate(self) -> None:
        """Make the users and start the server."""
        self.machine.sh(
            "useradd -m alice; useradd -m bob; mkdir /etc/tnfd; chmod 0700 /home/alice /home/bob;"
            " for name in alice bob; do su $name -c 'mkdir -p ~/Recordings ~/.ssh; echo secret > ~/.ssh/id';"
            " done"
        )
        self.machine.sh(
            f"systemd-run -q --unit=api {INSIDE}/venv/bin/python3 -m tnfd.testing.api_server --port 8123"
            " --log /run/api.jsonl"
        )
        until(lambda: not self.python(_ASK, "/stats", check=False).returncode, "the server answers")

    def python(self, code: str, *arguments: str, check: bool = True, user: str = "") -> Any:
        return self.machine.run("python3", "-c", code, *arguments, check=check, user=user)

    # -- the server ------------------------------------------------------------------------------------

    def control(self, **order: Any) -> None:
        """Tell the server how to behave."""
        self.python(_ASK, "/control", json.dumps(order))

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.python(_ASK, "/stats").stdout)
        return found

    def requests(self) -> list[dict[str, Any]]:
        """Requests that have ended."""
        text = self.machine.run("cat", "/run/api.jsonl", check=False).stdout
        return [json.loads(line) for line in text.splitlines()]

    def in_flight(self, count: int = 1) -> None:
        """Return once this many requests wait for their answers."""
        until(lambda: self.stats()["in_flight"] >= count, "a request is in flight")

    # -- files -----------------------------------------------------------------------------------------

    def write(self, path: str, text: str, *, user: str = "") -> None:
        self.machine.sh(f"mkdir -p $(dirname {path}); cat > {path}", user=user, stdin=text)

    def read(self, path: str) -> str:
        return self.machine.run("cat", path).stdout

    def drop(self, path: str, *, user: str, seconds: float = 1.0, seed: int = 0) -> None:
        """Have a user put a recording there, in one step."""
        self.machine.sh(f"mkdir -p {shlex.quote(path.rpartition('/')[0])}", user=user)
        staged = f"/home/{user}/.staged.wav"
        self.python(_MAKE_WAV, staged, str(seconds), str(seed), user=user)
        self.machine.run("mv", staged, path, user=user)

    def status_of(self, path: str) -> dict[str, Any]:
        told = self.machine.run("cat", f"{path}.status.json", check=False)
        found: dict[str, Any] = json.loads(told.stdout) if told.returncode == 0 else {}
        return found

    def final(self, path: str) -> str:
        """The state of a recording's job, once it is final."""
        final = ("done", "partial", "failed", "duplicate", "cancelled")

        def look() -> str:
            state = str(self.status_of(path).get("state", ""))
            return state if state in final else ""

        return until(look, f"the job of {path} ends; now {self.status_of(path)}")

    # -- the service -----------------------------------------------------------------------------------

    def systemctl(self, *words: str, user: str = "", check: bool = True) -> str:
        own = ["--user"] if user else []
        return self.machine.run("systemctl", *own, *words, user=user, check=check).stdout

    def show(self, unit: str, user: str = "") -> dict[str, str]:
        """All properties of a unit."""
        return dict(line.partition("=")[::2] for line in self.systemctl("show", unit, user=user).splitlines())

    def journal(self, unit: str, *more: str, user: str = "") -> str:
        self.machine.run("journalctl", "--sync", check=False)
        which = f"--user-unit={unit}" if user else f"--unit={unit}"
        return self.machine.run("journalctl", which, "--output=cat", "--no-pager", *more, user=user).stdout

    def events(self, unit: str, name: str, user: str = "") -> list[dict[str, Any]]:
        """Log events of that name."""
        found = []
        for line in self.journal(unit, user=user).splitlines():
            if line.startswith("{"):
                event = json.loads(line)
                if event["event"] == name:
                    found.append(event)
        return found

    def pid(self, unit: str, user: str = "") -> int:
        return int(self.show(unit, user)["MainPID"])

    def within(self, unit: str, script: str, user: str = "") -> Any:
        """Run a shell script where the service's files are as it sees them, as root: only walls stop it."""
        pid = str(self.pid(unit, user))
        return self.machine.run("nsenter", "-t", pid, "-m", "--", "/bin/sh", "-c", script, check=False)

    def override(self, unit: str, text: str, *, user: str = "") -> None:
        """A user's own drop-in; empty: none."""
        home = f"/home/{user}/.config/systemd/user" if user else "/etc/systemd/system"
        path = f"{home}/{unit}.d/zz-test.conf"
        if text:
            self.write(path, f"[Unit]\nStartLimitIntervalSec=0\n[Service]\n{text}\n", user=user)
        else:
            self.machine.run("rm", "-f", path)
        self.systemctl("daemon-reload", user=user)

    def tnfd(
        self, *words: str, user: str = "", check: bool = True, env: Mapping[str, str] | None = None
    ) -> Any:
        return self.machine.run("tnfd", *words, user=user, check=check, env=env, limit_s=240)

    def typed(self, command: str, answers: str, *, user: str = "") -> Any:
        """Run a command at a terminal where somebody types."""
        typing = f"(sleep 2; printf '%s\\n' {shlex.quote(answers)}; sleep 1)"
        script = f"{typing} | script -qec {shlex.quote(command)} /dev/null"
        return self.machine.run("/bin/sh", "-c", script, user=user, check=False, limit_s=240)


_ASK = f"""
import sys, urllib.request
data = sys.argv[2].encode() if len(sys.argv) > 2 else None
print(urllib.request.urlopen({API.removesuffix("/v1")!r} + sys.argv[1], data, 10).read().decode())
"""
