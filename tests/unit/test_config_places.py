"""Which file is read, the state folder, and what must not lie in what."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tnfd.config import load_config
from tnfd.config.places import default_state_dir, exempt_from_mode, find_file, home_config
from tnfd.errors import ConfigError, Problem


def problems_of(file: Path, environ: dict[str, str]) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load_config(file, environ)
    return list(caught.value.problems)


def test_the_search_goes_from_the_flag_to_the_home_folder(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("flag.toml", "variable.toml", "xdg/tnfd/config.toml")]
    files.append(tmp_path / ".config/tnfd/config.toml")
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    home = {"HOME": str(tmp_path)}
    xdg = home | {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    variable = xdg | {"TNFD_CONFIG": str(files[1])}
    assert find_file(files[0], variable) == files[0]
    assert find_file(None, variable) == files[1]
    assert find_file(None, xdg) == files[2]
    assert find_file(None, home) == files[3]
    assert find_file(None, home | {"XDG_CONFIG_HOME": "relative"}) == files[3]


def test_a_found_file_that_cannot_be_read_is_not_skipped(tmp_path: Path) -> None:
    file = home_config({"HOME": str(tmp_path)})
    file.parent.mkdir(parents=True)
    file.symlink_to(tmp_path / "away")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(None, {"HOME": str(tmp_path)})


def test_the_state_folder_follows_systemd_then_xdg_then_home(tmp_path: Path) -> None:
    environ = {"HOME": "/h", "XDG_STATE_HOME": "/x", "STATE_DIRECTORY": "/s/tnfd:/other"}
    assert default_state_dir(environ) == (Path("/s/tnfd"), "$STATE_DIRECTORY")
    del environ["STATE_DIRECTORY"]
    assert default_state_dir(environ)[0] == Path("/x/tnfd")
    del environ["XDG_STATE_HOME"]
    assert default_state_dir(environ) == (Path("/h/.local/state/tnfd"), "default")


def test_the_state_folder_must_not_lie_in_an_inbox(tmp_path: Path) -> None:
    (tmp_path / "real/in").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    file = tmp_path / "c.toml"
    # Seen through the link, and though the state folder does not exist yet.
    file.write_text('[daemon]\nstate_dir = "real/in/.state/x"\n[[inbox]]\npath = "link/in"\n')
    (problem,) = problems_of(file, {})
    assert (problem.line, problem.key) == (2, "daemon.state_dir")
    file.write_text('[[inbox]]\npath = "link/in"\n')
    (problem,) = problems_of(file, {"STATE_DIRECTORY": str(tmp_path / "real/in")})
    assert (problem.where, problem.key) == ("environment", "STATE_DIRECTORY")
    (problem,) = problems_of(file, {"HOME": str(tmp_path / "real/in/home")})
    assert (problem.line, problem.key) == (2, "inbox[0].path")


def test_inbox_and_outputs_must_not_lie_in_the_state_folder(tmp_path: Path) -> None:
    (tmp_path / "state/in").mkdir(parents=True)
    (tmp_path / "ok").mkdir()
    file = tmp_path / "c.toml"
    file.write_text(
        '[daemon]\nstate_dir = "state"\n[[inbox]]\npath = "state/in"\n'
        '[[inbox]]\npath = "ok"\noutput_dir = "../state/out"\n'
    )
    assert [problem.line for problem in problems_of(file, {})] == [4, 7]


def test_two_inboxes_must_not_be_one_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    file = tmp_path / "c.toml"
    file.write_text('[[inbox]]\npath = "in"\n[[inbox]]\npath = "link"\n')
    (problem,) = problems_of(file, {"HOME": "/h"})
    assert problem.line == 4
    assert 'the same folder as the inbox "in"' in problem.message


def test_folders_have_to_be_folders(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    (tmp_path / "in").mkdir()
    file = tmp_path / "c.toml"
    file.write_text(
        '[daemon]\nstate_dir = "a"\n[[inbox]]\npath = "b"\n[[inbox]]\npath = "in"\noutput_dir = "../c"\n'
    )
    assert [problem.line for problem in problems_of(file, {})] == [2, 4, 7]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_inbox_has_to_be_readable(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir(mode=0o000)
    file = tmp_path / "c.toml"
    file.write_text('[[inbox]]\npath = "in"\n')
    (problem,) = problems_of(file, {"HOME": "/h"})
    assert "cannot be read by this user" in problem.message


def test_without_places_nothing_on_disk_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        '[[inbox]]\npath = "away"\n[[inbox]]\npath = "away"\n[engines.openai]\napi_key_file = "none"\n'
    )
    config = load_config(file, {"HOME": "/h"}, places=False)
    assert [inbox.path for inbox in config.inboxes] == [tmp_path / "away"] * 2
    assert len(problems_of(file, {"HOME": "/h"})) == 4


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_key_file_that_others_may_use_is_a_problem(tmp_path: Path, mode: int) -> None:
    key = tmp_path / "key"
    key.write_text("sk-1")
    key.chmod(mode)
    file = tmp_path / "c.toml"
    file.write_text('[engines.openai]\napi_key_file = "key"\n')
    (problem,) = problems_of(file, {"HOME": "/h"})
    assert problem.line == 2
    assert f"chmod 600 {key}" in problem.message
    # systemd hands out credentials with other modes, and guards their folder.
    load_config(file, {"HOME": "/h", "CREDENTIALS_DIRECTORY": str(tmp_path)})
    key.chmod(0o600)
    load_config(file, {"HOME": "/h"})


def test_only_secrets_of_the_system_are_exempt_from_the_mode(tmp_path: Path) -> None:
    assert exempt_from_mode(Path("/run/secrets/openai"), {})
    assert not exempt_from_mode(Path("/run/secrets-of-mine/openai"), {})
    assert not exempt_from_mode(Path("/run/secrets/../x"), {})
    assert not exempt_from_mode(tmp_path / "key", {"CREDENTIALS_DIRECTORY": ""})
