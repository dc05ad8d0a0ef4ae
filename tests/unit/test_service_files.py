"""What the service's files say: units, drop-ins, the property list; and who may have written them."""

from __future__ import annotations

import os
import plistlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from docs.make_units import files as packaged
from tnfd.config import Config, DaemonConfig, EngineConfig, InboxConfig
from tnfd.config.schema import PrivacyConfig
from tnfd.errors import Problem
from tnfd.service.control import Known, Told, parse_print
from tnfd.service.files import config_named, files_of, installed, make_folder, remove_all, write_all
from tnfd.service.launchd import domain_of, started_by_launchd
from tnfd.service.sandbox import Program, advise, sandbox_of
from tnfd.service.systemd import quoted, quoted_path, sandbox_drop_in, system_unit, user_unit
from tnfd.service.target import MARK, Owner, Target, environ_of

HOME = Path("/home/alice")
ANALYZE = shutil.which("systemd-analyze") or ""
PROGRAM = Program(("/home/alice/.local/bin/tnfd",), (HOME / ".local/share/pipx/venvs/tnfd", Path("/usr")))


def target(home: Path = HOME, *, system: bool = False, mac: bool = False) -> Target:
    owner = Owner("alice", os.getuid(), os.getgid(), home)
    return Target(owner, system=system, config_home=home / ".config", mac=mac)


def config(*inboxes: InboxConfig, engine: str = "openai", **more: object) -> Config:
    return Config(
        daemon=DaemonConfig(state_dir=HOME / ".local/state/tnfd"),
        inboxes=inboxes or (InboxConfig(HOME / "Recordings", name="r"),),
        engines={"e": EngineConfig("e", engine, model="small" if engine == "whisper" else "")},
        file=HOME / ".config/tnfd/config.toml",
        **more,  # type: ignore[arg-type]
    )


def settings(text: str) -> dict[str, list[str]]:
    """The assignments of a unit file."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and re.fullmatch(r"[A-Za-z]+", name):
            found.setdefault(name, []).append(value)
    return found


# -- units -------------------------------------------------------------------------------------------------


def test_packaged_files_are_what_the_code_renders() -> None:
    for path, text in packaged().items():
        assert path.read_text() == text, f"{path}: run make docs"


@pytest.mark.parametrize("unit", [user_unit(["/usr/bin/tnfd"]), system_unit(["/usr/bin/tnfd"])])
def test_units_have_what_was_measured(unit: str) -> None:
    found = settings(unit)
    assert found["Type"] == ["notify"]
    assert found["NotifyAccess"] == ["main"]
    assert found["ExecStart"] == ["/usr/bin/tnfd run"]
    assert found["KillMode"] == ["mixed"]
    assert found["Restart"] == ["on-failure"]
    assert found["RestartPreventExitStatus"] == ["78"]
    assert found["WatchdogSec"] == ["60s"]
    assert found["ProtectSystem"] == ["strict"]
    assert found["PrivateUsers"] == ["yes"]
    assert "MemoryDenyWriteExecute" not in found
    assert "ProcSubset" not in found
    assert "seccomp" in found["SystemCallFilter"][0].split()


def test_managers_let_the_daemon_finish_before_they_kill_it() -> None:
    grace_s = DaemonConfig(state_dir=Path("/")).shutdown_grace_s
    for unit, wanted_by in (
        (user_unit(["/t"]), "default.target"),
        (system_unit(["/t"]), "multi-user.target"),
    ):
        assert float(settings(unit)["TimeoutStopSec"][0].removesuffix("s")) > grace_s
        assert settings(unit)["WantedBy"] == [wanted_by]
    (file,) = files_of(target(mac=True), config(), PROGRAM, key=False)
    assert plistlib.loads(file.text.encode())["ExitTimeOut"] > grace_s


def test_the_users_unit_leaves_out_what_fails_there() -> None:
    found = settings(user_unit(["/usr/bin/tnfd"]))
    assert found["ProtectHome"] != ["tmpfs"]
    assert not {"ProtectKernelLogs", "PrivateIPC", "User", "StateDirectory"} & set(found)


@pytest.mark.skipif(not ANALYZE, reason="no systemd-analyze here")
@pytest.mark.parametrize(("name", "most"), [("tnfd.service", 2.2), ("tnfd@.service", 1.5)])
def test_exposure(name: str, most: float) -> None:
    path = next(path for path in packaged() if path.name == name)
    told = subprocess.run(
        [ANALYZE, "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    found = re.search(r"exposure level for \S+: ([\d.]+)", told)
    if found is None:
        pytest.skip("this systemd-analyze cannot judge files")
    assert float(found[1]) <= most, told


@pytest.mark.skipif(not ANALYZE, reason="no systemd-analyze here")
@pytest.mark.parametrize(("name", "manager"), [("tnfd.service", "--user"), ("tnfd@.service", "--system")])
def test_verify_says_nothing(name: str, manager: str, tmp_path: Path) -> None:
    path = next(path for path in packaged() if path.name == name)
    told = subprocess.run(
        [ANALYZE, manager, "verify", str(path)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.stdout + told.stderr == ""


# -- the sandbox -------------------------------------------------------------------------------------------


def test_the_users_sandbox_shows_what_is_needed_and_hides_the_rest_of_home() -> None:
    inboxes = (
        InboxConfig(HOME / "Recordings", name="r", after="move"),
        InboxConfig(Path("/srv/nas/in"), name="n", output_dir="/srv/texts"),
    )
    found = settings(sandbox_drop_in(target(), config(*inboxes), PROGRAM))
    assert found["TemporaryFileSystem"] == ["/home:ro", "/root:ro"]
    assert found["BindPaths"] == ["-/home/alice/.local/state/tnfd", "-/home/alice/Recordings"]
    assert found["ReadWritePaths"] == ["", "-/srv/nas/in", "-/srv/texts"]
    assert found["BindReadOnlyPaths"] == [
        "-/home/alice/.config/tnfd",
        "-/home/alice/.local/share/pipx/venvs/tnfd",
    ]


def test_the_systems_sandbox_names_no_path_but_those(tmp_path: Path) -> None:
    found = settings(sandbox_drop_in(target(system=True), config(), PROGRAM))
    assert "TemporaryFileSystem" not in found  # ProtectHome=tmpfs is in the unit
    assert found["BindPaths"] == ["-/home/alice/.local/state/tnfd", "-/home/alice/Recordings"]
    assert found["Environment"] == ["TNFD_CONFIG=/home/alice/.config/tnfd/config.toml"]


def test_a_configuration_in_the_home_itself_does_not_open_the_home() -> None:
    given = Config(
        daemon=DaemonConfig(state_dir=Path("/var/lib/tnfd/alice")),
        inboxes=(InboxConfig(HOME / "Recordings"),),
        file=HOME / "tnfd.toml",
    )
    assert HOME not in sandbox_of(given, PROGRAM, target()).read
    assert HOME / "tnfd.toml" in sandbox_of(given, PROGRAM, target()).read


def test_a_whisper_engine_gets_memory_and_devices() -> None:
    found = settings(sandbox_drop_in(target(), config(engine="whisper"), PROGRAM))
    assert found["MemoryMax"] == ["75%"]
    assert found["PrivateDevices"] == ["no"]
    assert "char-nvidia rw" in found["DeviceAllow"]
    assert "-/home/alice/.cache/huggingface" in found["BindPaths"]
    assert "MemoryMax" not in settings(sandbox_drop_in(target(), config(), PROGRAM))


def test_local_only_closes_the_network_beyond_private_addresses() -> None:
    found = settings(sandbox_drop_in(target(), config(privacy=PrivacyConfig(local_only=True)), PROGRAM))
    assert found["IPAddressDeny"] == ["any"]


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/home/a/Rec", "/home/a/Rec"),
        ("/home/a/My Rec", '"/home/a/My Rec"'),
        ("/home/a/100%", "/home/a/100%%"),
        ("/home/a/a:b", '"/home/a/a\\\\:b"'),
        ('/home/a/"q"', '"/home/a/\\"q\\""'),
        ("/home/a/ü", '"/home/a/\\xc3\\xbc"'),
    ],
)
def test_paths_are_taken_literally(path: str, written: str) -> None:
    assert quoted_path(Path(path)) == written


def test_words_are_taken_literally() -> None:
    assert quoted("a$b%c d") == '"a$$b%%c d"'


def test_advice_is_for_folders_of_a_service_alone() -> None:
    problems = [Problem("f", 1, "inbox[0].path", "the folder does not exist: /x")]
    assert "tnfd service install" in advise(problems, {"INVOCATION_ID": "1"})
    assert advise(problems, {}) == ""
    assert advise([Problem("f", 1, "daemon.workers", "x")], {"INVOCATION_ID": "1"}) == ""


# -- files -------------------------------------------------------------------------------------------------


def test_installing_again_writes_nothing_and_foreign_files_are_kept(tmp_path: Path) -> None:
    mine = target(tmp_path)
    wanted = files_of(mine, config(), PROGRAM, key=True)
    mine.unit_file.parent.mkdir(parents=True)
    mine.unit_file.write_text("[Service]\nExecStart=/bin/mine\n")
    written, aside = write_all(wanted)
    assert set(written) == {mine.unit_file, mine.sandbox_file, mine.credential_file}
    assert [path.read_text() for path in aside] == ["[Service]\nExecStart=/bin/mine\n"]
    assert write_all(wanted) == ([], [])
    assert config_named(mine) == HOME / ".config/tnfd/config.toml"
    theirs = mine.drop_ins / "override.conf"
    theirs.write_text("[Service]\nNice=0\n")
    assert set(remove_all(mine)) == set(written)
    assert installed(mine) == []
    assert theirs.exists()
    assert aside[0].exists()


def test_the_key_is_handed_over_only_where_one_is_kept(tmp_path: Path) -> None:
    paths = {file.path for file in files_of(target(tmp_path), config(), PROGRAM, key=False)}
    assert target(tmp_path).credential_file not in paths


def test_folders_are_made_with_their_parents(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a/b", target(tmp_path), 0o700)
    assert not make_folder(tmp_path / "a/b", target(tmp_path), 0o700)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_a_service_does_not_see_the_terminals_variables() -> None:
    seen = environ_of(target(), {"OPENAI_API_KEY": "sk-1", "TNFD_WORKERS": "9", "XDG_DATA_HOME": "/d"})
    assert seen == {"HOME": "/home/alice", "USER": "alice", "XDG_DATA_HOME": "/d"}
    assert environ_of(target(system=True), {})["STATE_DIRECTORY"] == "/var/lib/tnfd/alice"


# -- launchd -----------------------------------------------------------------------------------------------


def test_the_property_list_has_launchds_keys_and_types() -> None:
    home = Path("/Users/alice")
    (file,) = files_of(target(home, mac=True), config(), Program(("/Users/alice/bin/tnfd",), ()), key=True)
    assert file.path == home / "Library/LaunchAgents/local.tnfd.plist"
    assert MARK in file.text
    found = plistlib.loads(file.text.encode())
    assert found["Label"] == file.path.stem
    assert found["ProgramArguments"] == ["/Users/alice/bin/tnfd", "run"]
    assert found["KeepAlive"] == {"SuccessfulExit": False}
    types = {
        "RunAtLoad": bool, "ThrottleInterval": int, "ExitTimeOut": int, "ProcessType": str,
        "LowPriorityIO": bool, "Nice": int, "Umask": int, "StandardErrorPath": str, "WorkingDirectory": str,
    }  # fmt: skip
    assert {name: type(found[name]) for name in types} == types
    assert not {"WatchPaths", "QueueDirectories"} & set(found)
    assert all(isinstance(value, str) for value in found["EnvironmentVariables"].values())
    assert found["EnvironmentVariables"]["CREDENTIALS_DIRECTORY"] == "/Users/alice/.config/tnfd"
    assert found["StandardErrorPath"] == "/Users/alice/Library/Logs/tnfd.log"
    assert "UserName" not in found


def test_the_systems_property_list_names_the_user() -> None:
    (file,) = files_of(target(Path("/Users/alice"), mac=True, system=True), config(), PROGRAM, key=False)
    found = plistlib.loads(file.text.encode())
    assert found["UserName"] == "alice"
    assert file.path == Path("/Library/LaunchDaemons/local.tnfd.plist")
    assert domain_of(target(mac=True, system=True)) == "system"


def test_launchctls_answer_is_read() -> None:
    text = "gui/501/local.tnfd = {\n\tactive count = 1\n\tstate = running\n\tpid = 4711\n\t\tpid = 1\n}\n"
    assert parse_print(Told(0, text)) == Known("active", "running", enabled=True, pid=4711)
    ended = parse_print(Told(0, "\tstate = not running\n\tlast exit code = 1\n"))
    assert (ended.active, ended.exit_code) == ("inactive", 1)
    assert parse_print(Told(113, "Could not find service")) == Known()


def test_launchd_is_recognised_by_its_own_variable() -> None:
    assert started_by_launchd({"XPC_SERVICE_NAME": "local.tnfd"})
    assert not started_by_launchd({"XPC_SERVICE_NAME": "0"})
