"""What the doctor says of the service, the limits of file events, the sandbox and macOS's privacy."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.integration.test_service_cli import User
from tnfd.config import InboxConfig, load_config
from tnfd.doctor import Mark
from tnfd.doctor.finding import Finding
from tnfd.doctor.limits import check_limits
from tnfd.doctor.privacy import blocked, guarded, warned
from tnfd.doctor.service import check_sandbox, check_service, service_environ, service_here


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)


def environ_of(user: User, state: str = "running") -> dict[str, str]:
    return {
        "HOME": str(user.home), "PATH": f"{user.bin}:/usr/bin:/bin", "LOG": str(user.log),
        "SHOWN": str(user.shown), "STATE": state,
    }  # fmt: skip


def checked(user: User, *, running: bool = True) -> list[Finding]:
    environ = environ_of(user)
    config = load_config(None, environ)
    return list(check_service(service_here(environ), config, environ, running=running))


def assert_each_can_be_mended(found: list[Finding]) -> None:
    for finding in found:
        assert finding.mark is Mark.OK or (finding.why and finding.mend), finding


async def test_a_service_that_is_not_set_up_is_no_fault(user: User) -> None:
    (found,) = checked(user)
    assert found.mark is Mark.OK
    assert "tnfd service install" in found.what


async def test_a_service_that_runs_and_fits(user: User) -> None:
    await user.run("install")
    found = checked(user)
    assert [one.mark for one in found if "linger" not in one.what] == [Mark.OK]


@pytest.mark.parametrize(
    ("shown", "mark", "what"),
    [
        ("ActiveState=failed\nResult=exit-code\nExecMainStatus=78\n", Mark.FAIL, "mistake"),
        ("ActiveState=failed\nResult=exit-code\nExecMainStatus=226\n", Mark.FAIL, "sandbox"),
        ("ActiveState=failed\nResult=watchdog\n", Mark.FAIL, "watchdog"),
        ("ActiveState=inactive\n", Mark.WARN, "a daemon does"),
        ("ActiveState=active\nMainPID=7\nNRestarts=9\nUnitFileState=enabled\n", Mark.WARN, "9 times"),
        ("ActiveState=active\nMainPID=7\nUnitFileState=disabled\n", Mark.WARN, "not enabled"),
    ],
)
async def test_a_service_that_does_not_do_as_it_should(user: User, shown: str, mark: Mark, what: str) -> None:
    await user.run("install")
    user.shown.write_text(shown)
    found = checked(user)
    assert any(one.mark is mark and what in one.what for one in found), found
    assert_each_can_be_mended(found)


async def test_a_sandbox_that_is_older_than_the_configuration(user: User) -> None:
    await user.run("install")
    user.write(more=f'output_dir = "{user.home}/Texts"')
    found = checked(user)
    assert any("older than the configuration" in one.what for one in found)
    assert_each_can_be_mended(found)


async def test_the_key_that_is_kept_for_it(user: User) -> None:
    user.write(engine="openai")
    key = user.file.with_name("openai-api-key")
    await user.run("install")
    assert any("no key" in one.what for one in checked(user))
    key.write_text("sk-test-0123456789\n")
    key.chmod(0o644)
    await user.run("install")
    (loose,) = [one for one in checked(user) if "others may read" in one.what]
    assert (loose.mark, loose.mend) == (Mark.FAIL, f"chmod 600 {key}")
    environ = environ_of(user)
    assert service_environ(service_here(environ), environ)["CREDENTIALS_DIRECTORY"] == str(key.parent)


def test_inotify_limits_against_need(tmp_path: Path) -> None:
    limits, inbox = tmp_path / "limits", tmp_path / "in"
    limits.mkdir()
    for number in range(9):
        (inbox / f"{number}").mkdir(parents=True)

    def check(watches: int, instances: int = 128, **more: object) -> Finding:
        (limits / "max_user_watches").write_text(f"{watches}\n")
        (limits / "max_user_instances").write_text(f"{instances}\n")
        given = InboxConfig(inbox, name="in", watch="events", **more)  # type: ignore[arg-type]
        (found,) = check_limits([given], limits)
        return found

    assert check(100).mark is Mark.OK
    assert check(11).mark is Mark.WARN
    assert check(9).mark is Mark.FAIL
    assert "max_user_watches=65536" in check(9).mend
    assert check(9, recursive=False).mark is Mark.OK
    assert "max_user_instances" in check(100, instances=1).mend


def test_scanned_inboxes_need_no_events(tmp_path: Path) -> None:
    (found,) = check_limits([InboxConfig(tmp_path, name="in", watch="scan")])
    assert found.mark is Mark.OK


def test_the_sandbox_of_this_kernel_is_judged(tmp_path: Path) -> None:
    old = tmp_path / "status"
    old.write_text("Name:\ttnfd\n")
    found = list(check_sandbox(str(old)))
    assert found[0].mark is Mark.WARN
    assert_each_can_be_mended(found)
    assert list(check_sandbox(str(tmp_path / "missing"))) == []


def test_macos_names_the_program_to_allow() -> None:
    home, python = Path("/Users/a"), "/opt/python3.13"
    refused = blocked(
        "inbox r", home / "Documents/r", PermissionError(errno.EPERM, os.strerror(errno.EPERM)), python
    )
    assert refused is not None
    assert refused.mark is Mark.FAIL
    assert python in refused.why
    assert "Privacy" in refused.mend
    assert blocked("inbox r", home, PermissionError(errno.EACCES, "no"), python) is None
    assert guarded(Path("/Volumes/USB/in"), home)
    assert not guarded(home / "Recordings", home)
    assert warned("inbox r", home / "Recordings", home, python) is None
    told = warned("inbox r", home / "Library/CloudStorage/Dropbox/r", home, python)
    assert told is not None
    assert python in told.why
