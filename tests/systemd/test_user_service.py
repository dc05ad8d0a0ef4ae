"""A user's own service on a real systemd: nobody but that user is asked for anything."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.systemd.world import API, KEY, World, until

UNIT = "tnfd.service"
INBOX = "/home/alice/Recordings"
CONFIG = "/home/alice/.config/tnfd/config.toml"
SETTINGS = f"""
[daemon]
workers = 2
[[inbox]]
path = "{INBOX}"
settle_s = 0.3
[[inbox]]
path = "/srv/nas/in"
settle_s = 0.3
output_dir = "/home/alice/Texts"
[engines.openai]
type = "openai"
model = "whisper-1"
"""


@pytest.fixture(scope="module", autouse=True)
def service(world: World) -> Iterator[None]:
    """Set up by alice at a terminal, the key typed; the server is the local one."""
    world.machine.sh(
        "mkdir -p /srv/nas; mount -t tmpfs nas /srv/nas; mkdir /srv/nas/in; chown alice /srv/nas/in"
    )
    world.machine.run("loginctl", "enable-linger", "alice")
    until(
        lambda: "running" in world.systemctl("is-system-running", user="alice", check=False),
        "alice's systemd",
    )
    world.write(CONFIG, SETTINGS, user="alice")
    world.override(UNIT, f"Environment=OPENAI_BASE_URL={API}\nRestartSec=1s", user="alice")
    told = world.typed("tnfd service install", KEY, user="alice")
    assert told.returncode == 0, told.stdout + world.journal(UNIT, user="alice")
    assert KEY not in told.stdout
    yield
    print(world.journal(UNIT, user="alice")[-6000:])


def test_it_runs_and_transcribes_with_the_key_that_was_typed(world: World) -> None:
    shown = world.show(UNIT, "alice")
    assert (shown["ActiveState"], shown["UnitFileState"]) == ("active", "enabled")
    until(lambda: "2 inboxes" in world.show(UNIT, "alice")["StatusText"], "a status line")
    talk = f"{INBOX}/talk.wav"
    world.drop(talk, user="alice", seed=1)
    assert world.final(talk) == "done"
    assert world.requests()[-1]["authorization"] == f"Bearer {KEY}"[:12]
    kept = "/home/alice/.config/tnfd/openai-api-key"
    assert world.machine.run("stat", "-c", "%U %a", kept).stdout.strip() == "alice 600"


def test_a_recording_on_another_mount_has_its_text_in_a_folder_of_its_own(world: World) -> None:
    talk = "/srv/nas/in/nas.wav"
    world.drop(talk, user="alice", seed=2)
    assert world.final(talk.replace("/srv/nas/in", "/home/alice/Texts")) == "done"


def test_the_sandbox_holds_from_inside(world: World) -> None:
    def inside(script: str) -> str:
        told = world.within(UNIT, script, "alice")
        return str(told.stdout + told.stderr)

    assert inside("ls /home").split() == ["alice"]
    assert "id" not in inside("ls -A /home/alice/.ssh").split()
    assert "secret" not in inside("cat /home/alice/.ssh/id /home/bob/.ssh/id")
    for place in ("/home/alice", "/home/alice/.config/tnfd", "/srv/nas", "/var/tmp/..", "/dev/shm/.."):
        assert "WRITTEN" not in inside(f"touch {place}/written && echo WRITTEN"), place
    for place in (INBOX, "/srv/nas/in", "/home/alice/Texts", "/home/alice/.local/state/tnfd"):
        assert "WRITTEN" in inside(f"touch {place}/.w && rm {place}/.w && echo WRITTEN"), place
    status = world.read(f"/proc/{world.pid(UNIT, 'alice')}/status")
    fields = dict(line.partition(":\t")[::2] for line in status.splitlines())
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert int(fields["CapBnd"], 16) == 0


def test_a_reload_and_a_kill(world: World) -> None:
    before = world.pid(UNIT, "alice")
    world.write(CONFIG, SETTINGS.replace("settle_s", 'formats = ["md"]\nsettle_s', 1), user="alice")
    world.systemctl("reload", UNIT, user="alice")
    talk = f"{INBOX}/md.wav"
    world.drop(talk, user="alice", seed=3)
    assert world.final(talk) == "done"
    assert "md.md" in world.machine.run("ls", INBOX).stdout.split()
    assert world.pid(UNIT, "alice") == before
    world.control(base_s=5.0)
    killed = f"{INBOX}/killed.wav"
    world.drop(killed, user="alice", seed=4)
    world.in_flight()
    world.machine.sh(f"kill -9 {before}")
    world.control(base_s=0.0)
    assert world.final(killed) == "done"
    assert world.pid(UNIT, "alice") != before


def test_status_and_log_are_to_be_had(world: World) -> None:
    found = json.loads(world.tnfd("service", "status", "--json", user="alice").stdout)
    assert (found["running"], found["enabled"], found["lingers"]) == (True, True, True)
    assert found["outdated"] == []
    assert "healthy" in world.tnfd("status", user="alice").stdout
    world.machine.run("journalctl", "--sync", check=False)
    log = world.tnfd("service", "logs", user="alice", check=False)
    assert "job.finished" in log.stdout, log.stderr


def test_doctor_finds_nothing_that_fails(world: World) -> None:
    told = world.tnfd("doctor", "--json", user="alice", check=False, env={"OPENAI_BASE_URL": API})
    found = json.loads(told.stdout)
    failing = [one for one in found["findings"] if one["mark"] == "fail"]
    assert not failing
    assert any("service" in one["area"] and one["mark"] == "ok" for one in found["findings"])


def test_the_unit_is_sound_and_hardened(world: World) -> None:
    told = world.machine.run("systemd-analyze", "--user", "verify", UNIT, user="alice")
    assert told.stdout + told.stderr == ""
    path = "/home/alice/.config/systemd/user/tnfd.service"
    table = world.machine.run("systemd-analyze", "security", "--offline=true", path, check=False).stdout
    assert float(table.split("exposure level for")[1].split(":")[1].split()[0]) <= 2.2, table


def test_uninstalling_leaves_what_is_hers(world: World) -> None:
    told = world.tnfd("service", "uninstall", "--purge", user="alice").stdout
    assert "stopped and disabled" in told
    assert world.show(UNIT, "alice")["ActiveState"] == "inactive"
    left = world.machine.sh("ls -A ~/.config/tnfd ~/.config/systemd/user ~/.local/state", user="alice")
    assert "openai-api-key" not in left
    assert "config.toml" in left
    assert "sandbox.conf" not in left
    assert f"{INBOX}/talk.txt" in world.machine.run("ls", f"{INBOX}/talk.txt").stdout
