"""The service files for systemd and launchd, as far as they can be read without either."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from tnfd.cli.options import EXIT_CONFIG
from tnfd.config.schema import DaemonConfig

_PACKAGING = Path(__file__).parents[2] / "packaging"
_UNIT = _PACKAGING / "systemd" / "tnfd.service"
_PLIST = _PACKAGING / "launchd" / "local.tnfd.plist"
_ANALYZE = shutil.which("systemd-analyze")
_GRACE_S = DaemonConfig(state_dir=Path("/")).shutdown_grace_s


def _unit() -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(_UNIT.read_text(encoding="utf-8"))
    return parser


def test_unit_runs_the_daemon_and_leaves_a_wrong_configuration_alone() -> None:
    service = _unit()["Service"]
    assert service["ExecStart"].split()[1:] == ["run"]
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == str(EXIT_CONFIG)


def test_unit_lets_the_daemon_finish_before_it_is_killed() -> None:
    service = _unit()["Service"]
    assert float(service["TimeoutStopSec"].removesuffix("s")) > _GRACE_S
    assert service["KillMode"] == "mixed"


def test_unit_starts_with_the_user() -> None:
    assert _unit()["Install"]["WantedBy"] == "default.target"


@pytest.mark.skipif(_ANALYZE is None, reason="no systemd here")
def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    program = tmp_path / ".local" / "bin" / "tnfd"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    found = subprocess.run(
        [str(_ANALYZE), "verify", "--user", str(_UNIT)],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        timeout=30,
    )
    # Unknown keys do not change its exit code.
    assert (found.stdout, found.stderr, found.returncode) == ("", "", 0)


def test_plist_runs_the_daemon_again_only_after_a_failure() -> None:
    agent = plistlib.loads(_PLIST.read_bytes())
    assert agent["Label"] == _PLIST.stem
    assert agent["ProgramArguments"] == ["@TNFD@", "run"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["RunAtLoad"] is True


def test_plist_lets_the_daemon_finish_before_it_is_killed() -> None:
    assert plistlib.loads(_PLIST.read_bytes())["ExitTimeOut"] > _GRACE_S


def test_plist_has_no_other_places_to_fill_in_than_its_readme_does() -> None:
    template = _PLIST.read_text(encoding="utf-8")
    filled = template.replace("@TNFD@", "/opt/tnfd").replace("@HOME@", "/Users/me")
    agent = plistlib.loads(filled.encode())
    assert "@" not in str(agent)
    readme = (_PLIST.parent / "README.md").read_text(encoding="utf-8")
    assert all(f"s|{place}|" in readme for place in ("@TNFD@", "@HOME@"))
