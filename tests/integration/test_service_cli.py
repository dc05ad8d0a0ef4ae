"""``tnfd service`` as a command: what it writes, prints and tells systemctl (one of the test's own)."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from tests.e2e.daemon import REPOSITORY, Ran, command

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd's")

# Answers as systemctl does, and writes down what it was told. $STATE and $ACTIVE say how things are.
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$LOG"
[ "$1" = --user ] && shift
case $1 in
is-system-running) echo "$STATE"; [ "$STATE" = running ];;
show) cat "$SHOWN";;
start|restart) [ "${FAILS:-}" ] && { cp "$FAILS" "$SHOWN"; exit 1; }
  printf '%s\\n' ActiveState=active MainPID=42 'StatusText=0 of 5 workers busy' UnitFileState=enabled \\
    > "$SHOWN";;
disable) printf 'ActiveState=inactive\\n' > "$SHOWN";;
esac
"""
CONFIG = """
[[inbox]]
path = "{inbox}"
{more}
[engines.{engine}]
type = "{engine}"
"""


class User:
    """A home, a configuration, and a systemctl of its own."""

    def __init__(self, base: Path) -> None:
        self.home, self.inbox = base / "home", base / "home" / "Recordings"
        self.inbox.mkdir(parents=True)
        self.bin = base / "bin"
        self.bin.mkdir()
        (self.bin / "systemctl").write_text(SYSTEMCTL)
        (self.bin / "systemctl").chmod(0o755)
        self.shown, self.log = base / "shown", base / "log"
        self.shown.write_text("ActiveState=inactive\n")
        self.log.touch()
        self.file = self.home / ".config/tnfd/config.toml"
        self.file.parent.mkdir(parents=True)
        self.units = self.home / ".config/systemd/user"
        self.unit, self.sandbox = self.units / "tnfd.service", self.units / "tnfd.service.d/sandbox.conf"
        self.write()

    def write(self, *, engine: str = "sphinx", more: str = "") -> None:
        self.file.write_text(CONFIG.format(inbox=self.inbox, engine=engine, more=more))

    async def run(self, *words: str, state: str = "running", systemctl: bool = True, **more: str) -> Ran:
        path = f"{self.bin}:/usr/bin:/bin" if systemctl else "/nowhere"
        kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        environ = {
            **kept, "HOME": str(self.home), "PATH": path, "LOG": str(self.log), "SHOWN": str(self.shown),
            "STATE": state, "PYTHONPATH": str(REPOSITORY), **more,
        }  # fmt: skip
        return await command("service", *words, env=environ)

    def told(self) -> list[str]:
        lines = [line.removeprefix("--user ") for line in self.log.read_text().splitlines()]
        self.log.write_text("")
        return [line for line in lines if not line.startswith(("show", "is-system-running"))]


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)


async def test_print_shows_each_file_after_its_path_and_writes_nothing(user: User) -> None:
    ran = await user.run("install", "--print")
    assert ran.code == 0
    assert ran.out.startswith(f"# {user.unit}\n")
    assert f"\n# {user.sandbox}\n" in ran.out
    assert f"BindPaths=-{user.inbox}" in ran.out or f"ReadWritePaths=-{user.inbox}" in ran.out
    assert not user.units.exists()
    assert user.told() == []


async def test_it_is_set_up_started_and_again_without_a_change(user: User) -> None:
    ran = await user.run("install")
    assert ran.code == 0, ran.err
    assert user.told() == [
        "daemon-reload",
        "enable tnfd.service",
        "reset-failed tnfd.service",
        "start tnfd.service",
    ]
    assert "started it" in ran.out
    assert "loginctl enable-linger" in ran.out
    assert stat.S_IMODE(user.unit.stat().st_mode) == 0o644
    assert (user.home / ".local/state/tnfd").stat().st_mode & 0o777 == 0o700
    ran = await user.run("install")
    assert user.told() == ["reset-failed tnfd.service", "reload tnfd.service"]

    user.write(more=f'output_dir = "{user.home}/Texts"')
    ran = await user.run("install")
    assert user.told() == ["daemon-reload", "reset-failed tnfd.service", "restart tnfd.service"]


async def test_without_a_running_systemd_it_says_what_to_do(user: User) -> None:
    ran = await user.run("install", state="offline")
    assert ran.code == 75
    assert "not running" in ran.out
    assert "systemctl --user daemon-reload && systemctl --user enable --now tnfd.service" in ran.out
    assert user.unit.exists()
    assert user.told() == []
    assert (await user.run("install", "--no-start", state="offline")).code == 0


async def test_without_systemctl_it_says_so(user: User) -> None:
    ran = await user.run("install", systemctl=False)
    assert ran.code == 75
    assert "no systemctl" in ran.out


async def test_a_mistake_in_the_configuration_sets_nothing_up(user: User) -> None:
    user.write(more="colour = 3")
    ran = await user.run("install")
    assert ran.code == 78
    assert "colour" in ran.err
    assert not user.units.exists()


@pytest.mark.parametrize(("code", "expected"), [("78", "configuration"), ("226", "sandbox"), ("1", "logs")])
async def test_a_start_that_fails_is_told_with_its_reason(
    user: User, tmp_path: Path, code: str, expected: str
) -> None:
    failed = tmp_path / "failed"
    failed.write_text(f"ActiveState=failed\nResult=exit-code\nExecMainStatus={code}\n")
    ran = await user.run("install", FAILS=str(failed))
    assert ran.code == 1
    assert expected in ran.err or "journalctl" in ran.err
    shown = await user.run("status")
    assert shown.code == 3


async def test_status_as_json_and_the_sandbox_that_is_behind(user: User) -> None:
    missing = await user.run("status", "--json")
    assert (missing.code, missing.json["installed"], missing.json["running"]) == (3, False, False)
    await user.run("install")
    ran = await user.run("status", "--json")
    assert ran.code == 0
    assert ran.json["schema"] == "tnfd.service/1"
    assert (ran.json["unit"], ran.json["running"], ran.json["pid"]) == ("tnfd.service", True, 42)
    assert (ran.json["text"], ran.json["outdated"]) == ("0 of 5 workers busy", [])
    user.write(more='output_dir = "/srv/elsewhere"')
    ran = await user.run("status", "--json")
    assert ran.json["outdated"] == [str(user.sandbox)]
    assert "tnfd service install" in (await user.run("status")).out


async def test_uninstalling_removes_what_is_ours(user: User) -> None:
    await user.run("install")
    theirs = user.sandbox.with_name("override.conf")
    theirs.write_text("[Service]\nNice=0\n")
    user.told()
    ran = await user.run("uninstall")
    assert ran.code == 0
    assert user.told()[0] == "disable --now tnfd.service"
    assert not user.unit.exists()
    assert not user.sandbox.exists()
    assert theirs.exists()
    assert user.file.exists()
    assert "not set up" in (await user.run("uninstall")).out


async def test_purge_removes_the_state_and_the_key(user: User) -> None:
    await user.run("install")
    state = user.home / ".local/state/tnfd"
    (state / "tnfd.sqlite3").touch()
    key = user.file.with_name("openai-api-key")
    key.write_text("sk-test-0123456789")
    ran = await user.run("uninstall", "--purge")
    assert ran.code == 0
    assert not state.exists()
    assert not key.exists()
    assert json.dumps(str(state))[1:-1] in ran.out


async def test_a_key_that_is_missing_is_named_and_never_taken_from_the_terminal(user: User) -> None:
    user.write(engine="openai")
    ran = await user.run("install", OPENAI_API_KEY="sk-test-0123456789")
    assert "openai-api-key" in ran.err
    assert "sk-test" not in ran.out + ran.err + user.unit.read_text() + user.sandbox.read_text()
    user.file.with_name("openai-api-key").write_text("sk-test-0123456789\n")
    await user.run("install")
    credential = user.sandbox.with_name("credential.conf").read_text()
    assert f"LoadCredential=openai-api-key:{user.file.with_name('openai-api-key')}" in credential


@pytest.mark.parametrize(
    "words",
    [
        ("install", "--run-as", "x"),
        ("install", "--user", "--system"),
        ("install", "--system", "--run-as", "no-such-user"),
    ],
)
async def test_what_does_not_go_together_is_refused(user: User, words: tuple[str, ...]) -> None:
    ran = await user.run(*words)
    assert ran.code == 2
    assert "Traceback" not in ran.err
