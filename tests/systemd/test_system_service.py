"""The system's service in a user's name: set up, work, reload, crash, hang, stop, mistakes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.systemd.world import API, KEY, World, until

UNIT = "tnfd@alice.service"
INBOX = "/home/alice/Recordings"
SHARE = "/srv/nas"
SETTINGS = f"""
[daemon]
workers = 2
{{daemon}}
[[inbox]]
path = "{INBOX}"
settle_s = 0.3
formats = [{{formats}}]
{{inbox}}
[[inbox]]
path = "{SHARE}"
settle_s = 0.3
[engines.openai]
type = "openai"
model = "whisper-1"
timeout_s = 120
"""


def configure(
    world: World, *, daemon: str = "", formats: str = '"txt"', inbox: str = "", more: str = ""
) -> None:
    text = SETTINGS.format(daemon=daemon, formats=formats, inbox=inbox) + more
    world.write("/etc/tnfd/config.toml", text)


@pytest.fixture(scope="module", autouse=True)
def service(world: World) -> Iterator[None]:
    """Set up at a terminal, the key typed; the server is the local one."""
    world.machine.sh(f"mkdir {SHARE}; chown alice {SHARE}")
    configure(world)
    world.override(UNIT, f"Environment=OPENAI_BASE_URL={API}\nRestartSec=1s")
    told = world.typed("tnfd service install --system --run-as alice", KEY)
    assert told.returncode == 0, told.stdout + world.journal(UNIT)
    assert KEY not in told.stdout
    assert "started it" in told.stdout
    yield
    print(world.journal(UNIT)[-6000:])


@pytest.fixture(autouse=True)
def running(world: World) -> None:
    """Every test begins with a service that runs under the plain configuration, and a quick server."""
    world.control(base_s=0.0)
    configure(world)
    if world.show(UNIT)["ActiveState"] == "active":
        world.systemctl("reload", UNIT)
    else:
        world.systemctl("reset-failed", UNIT, check=False)
        world.systemctl("start", UNIT)


def test_start_returns_when_it_is_ready_and_the_status_line_has_figures(world: World) -> None:
    world.systemctl("restart", UNIT)
    shown = world.show(UNIT)
    assert shown["ActiveState"] == "active"
    assert world.events(UNIT, "daemon.ready")
    line = until(lambda: world.show(UNIT)["StatusText"], "a status line")
    assert "of 2 workers busy" in line
    assert "2 inboxes" in line


def test_a_recording_is_transcribed_with_the_key_that_was_typed(world: World) -> None:
    talk = f"{INBOX}/talk.wav"
    world.drop(talk, user="alice", seed=1)
    assert world.final(talk) == "done"
    owner = world.machine.run("stat", "-c", "%U", f"{INBOX}/talk.txt").stdout.strip()
    assert owner == "alice"
    assert world.requests()[-1]["authorization"] == f"Bearer {KEY}"[:12]
    kept = world.machine.run("stat", "-c", "%U %a", "/etc/credstore/openai-api-key").stdout.strip()
    assert kept == "root 600"
    assert KEY not in world.journal(UNIT)
    assert KEY not in world.machine.run("systemctl", "cat", UNIT).stdout


def test_recordings_are_moved_to_done(world: World) -> None:
    configure(world, inbox='after = "move"')
    world.systemctl("reload", UNIT)
    world.drop(f"{INBOX}/moved.wav", user="alice", seed=2)
    done = f"{INBOX}/done"
    until(
        lambda: not world.machine.run("test", "-f", f"{done}/moved.wav", check=False).returncode,
        "it is moved",
    )
    until(
        lambda: not world.machine.run("test", "-f", f"{done}/moved.txt", check=False).returncode,
        "its text, too",
    )


def test_the_sandbox_holds_from_inside(world: World) -> None:
    def inside(script: str) -> str:
        told = world.within(UNIT, script)
        return str(told.stdout + told.stderr)

    alice = "setpriv --reuid alice --regid alice --clear-groups"
    assert inside("ls /home").split() == ["alice"]
    assert inside("ls -A /home/alice").split() == ["Recordings"]
    assert "secret" not in inside("cat /home/alice/.ssh/id /home/bob/.ssh/id /root/.ssh/id")
    for place in ("/etc", "/usr", "/var", "/home", "/home/alice", "/opt", "/var/lib", "/srv", "/boot"):
        told = inside(f"test -d {place} || exit 0; {alice} touch {place}/written && echo WRITTEN")
        # What hides the homes is a file system of the service's own, which systemd 252 leaves writable.
        assert "WRITTEN" not in told or place.startswith("/home"), place
        assert world.machine.run("test", "-e", f"{place}/written", check=False).returncode, place
    assert "WRITTEN" in inside(f"touch {INBOX}/.written && rm {INBOX}/.written && echo WRITTEN")
    assert "WRITTEN" in inside(
        "touch /var/lib/tnfd/alice/written && rm /var/lib/tnfd/alice/written && echo WRITTEN"
    )
    assert inside("ls /dev/kmsg /dev/mem /dev/vda 2>/dev/null") == ""
    status = world.read(f"/proc/{world.pid(UNIT)}/status")
    fields = dict(line.partition(":\t")[::2] for line in status.splitlines())
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert fields["Umask"] == "0077"


def test_a_share_that_is_mounted_later_is_seen_and_its_loss_loses_nothing(world: World) -> None:
    world.machine.sh(f"mount -t tmpfs -o uid=$(id -u alice),gid=$(id -g alice) share {SHARE}")
    talk = f"{SHARE}/mounted.wav"
    world.drop(talk, user="alice", seed=3)
    try:
        assert world.final(talk) == "done"
    finally:
        world.machine.run("umount", "-l", SHARE)
    until(lambda: world.events(UNIT, "inbox.lost"), "the loss is noticed")
    shown = json.loads(world.tnfd("show", talk, "--json", user="alice").stdout)
    assert shown["state"] == "done"
    assert not world.machine.run("ls", "-A", SHARE).stdout


def test_a_good_configuration_is_taken_without_touching_what_is_in_progress(world: World) -> None:
    world.control(base_s=4.0)
    before = world.pid(UNIT)
    talk = f"{INBOX}/while.wav"
    world.drop(talk, user="alice", seed=4)
    world.in_flight()
    configure(world, formats='"md"', daemon="shutdown_grace_s = 20")
    world.systemctl("reload", UNIT)
    assert world.events(UNIT, "config.reloaded")
    world.control(base_s=0.0)
    after = f"{INBOX}/after.wav"
    world.drop(after, user="alice", seed=5)
    assert (world.final(after), world.final(talk)) == ("done", "done")
    names = world.machine.run("ls", INBOX).stdout.split()
    assert {"while.txt", "after.md"} <= set(names)
    assert not {"while.md", "after.txt"} & set(names)
    assert world.pid(UNIT) == before
    assert len(world.events(UNIT, "job.started")) == len(
        {e["job"] for e in world.events(UNIT, "job.started")}
    )


def test_a_bad_configuration_is_refused_and_the_former_one_holds(world: World) -> None:
    before = world.pid(UNIT)
    configure(world, more='\n[budget]\ndaily_usd = "many"\n')
    world.systemctl("reload", UNIT, check=False)
    refused = until(lambda: world.events(UNIT, "config.refused"), "it is refused")
    assert "daily_usd" in str(refused)
    assert "config.refused" in world.journal(UNIT, "--priority=err")
    told = world.tnfd("status", "--json", user="alice")
    assert "refused" in " ".join(json.loads(told.stdout)["attention"])
    talk = f"{INBOX}/anyway.wav"
    world.drop(talk, user="alice", seed=6)
    assert world.final(talk) == "done"
    assert (world.pid(UNIT), world.show(UNIT)["ActiveState"]) == (before, "active")


def test_killed_in_mid_job_it_is_started_again_and_pays_nothing_twice(world: World) -> None:
    first, second = f"{INBOX}/first.wav", f"{INBOX}/second.wav"
    world.drop(first, user="alice", seed=7)
    assert world.final(first) == "done"
    world.control(base_s=5.0)
    world.drop(second, user="alice", seed=8)
    world.in_flight()
    restarts = int(world.show(UNIT)["NRestarts"])
    paid = world.requests()  # what is in flight has not been answered
    world.machine.sh(f"kill -9 {world.pid(UNIT)}")
    world.control(base_s=0.0)
    until(lambda: int(world.show(UNIT)["NRestarts"]) == restarts + 1, "it is started again")
    assert world.final(second) == "done"
    later = world.requests()[len(paid) :]
    assert later
    assert not {request["sha256"] for request in paid} & {request["sha256"] for request in later}


def test_a_loop_that_hangs_is_ended_by_the_watchdog_and_says_where(world: World) -> None:
    world.override(UNIT, f"Environment=OPENAI_BASE_URL={API}\nRestartSec=1s\nWatchdogSec=3s")
    world.systemctl("restart", UNIT)
    until(lambda: world.show(UNIT)["WatchdogTimestampMonotonic"] != "0", "it gives signs of life")
    restarts = int(world.show(UNIT)["NRestarts"])
    hung = world.pid(UNIT)
    world.machine.sh(f"kill -STOP {hung}")
    until(lambda: int(world.show(UNIT)["NRestarts"]) > restarts, "it is started again")
    until(lambda: world.show(UNIT)["ActiveState"] == "active", "it runs")
    assert "Watchdog timeout" in world.journal(UNIT)
    assert "Fatal Python error: Aborted" in world.journal(UNIT)
    talk = f"{INBOX}/unhung.wav"
    world.drop(talk, user="alice", seed=9)
    assert world.final(talk) == "done"
    world.override(UNIT, f"Environment=OPENAI_BASE_URL={API}\nRestartSec=1s")


def test_stopping_waits_for_what_is_in_flight_longer_than_the_unit_says(world: World) -> None:
    world.override(UNIT, f"Environment=OPENAI_BASE_URL={API}\nTimeoutStopSec=2s")
    world.systemctl("restart", UNIT)
    world.control(base_s=7.0)
    talk = f"{INBOX}/drained.wav"
    world.drop(talk, user="alice", seed=10)
    world.in_flight()
    world.systemctl("stop", UNIT)
    shown = world.show(UNIT)
    assert (shown["Result"], shown["ActiveState"]) == ("success", "inactive")
    assert world.status_of(talk)["state"] == "done"
    world.override(UNIT, f"Environment=OPENAI_BASE_URL={API}\nRestartSec=1s")


def test_what_does_not_end_in_time_is_given_back_and_done_by_the_next(world: World) -> None:
    configure(world, daemon="shutdown_grace_s = 1")
    world.systemctl("reload", UNIT)
    world.control(base_s=60.0)
    talk = f"{INBOX}/resumed.wav"
    world.drop(talk, user="alice", seed=11)
    world.in_flight()
    world.systemctl("stop", UNIT)
    assert world.show(UNIT)["Result"] == "success"
    assert world.status_of(talk).get("state") != "done"
    world.control(base_s=0.0)
    world.systemctl("start", UNIT)
    assert world.final(talk) == "done"


def test_a_mistake_in_the_configuration_ends_it_with_78_and_for_good(world: World) -> None:
    configure(world, more="\n[budgett]\ndaily_usd = 1\n")
    world.systemctl("restart", UNIT, check=False)
    until(lambda: world.show(UNIT)["ActiveState"] == "failed", "it has failed")
    shown = world.show(UNIT)
    assert (shown["ExecMainStatus"], shown["Result"]) == ("78", "exit-code")
    assert shown["NRestarts"] == "0"
    assert "budgett" in world.journal(UNIT, "--priority=err", "--lines=20")
    told = world.tnfd("service", "status", check=False)
    assert told.returncode == 3
    assert "mistake in the configuration" in told.stdout


def test_without_its_key_it_starts_and_says_what_it_lacks(world: World) -> None:
    world.machine.run("mv", "/etc/credstore/openai-api-key", "/etc/credstore/away")
    try:
        world.systemctl("restart", UNIT)
        assert world.show(UNIT)["ActiveState"] == "active"
        assert "no key" in world.journal(UNIT, "--lines=20")
    finally:
        world.machine.run("mv", "/etc/credstore/away", "/etc/credstore/openai-api-key")
        world.systemctl("restart", UNIT)


def test_a_new_inbox_is_let_into_the_sandbox_by_installing_again(world: World) -> None:
    more = "/home/alice/More"
    world.machine.run("mkdir", "-p", more, user="alice")
    configure(world, more=f'\n[[inbox]]\npath = "{more}"\nsettle_s = 0.3\n')
    world.systemctl("reload", UNIT, check=False)
    until(lambda: "tnfd service install" in str(world.events(UNIT, "config.refused")), "it says what to do")
    assert "tnfd service install" in world.tnfd("service", "status", check=False).stdout
    told = world.tnfd("service", "install", "--system", "--run-as", "alice")
    assert "restarted it" in told.stdout
    talk = f"{more}/talk.wav"
    world.drop(talk, user="alice", seed=12)
    assert world.final(talk) == "done"
    again = world.tnfd("service", "install", "--system", "--run-as", "alice").stdout
    assert "as they should be" in again
    assert "restarted" not in again
    configure(world)
    world.tnfd("service", "install", "--system", "--run-as", "alice")


def test_who_may_reads_its_state_and_who_may_not_is_told_what_to_do(world: World) -> None:
    mine = world.tnfd("status", user="alice")
    assert "healthy" in mine.stdout
    roots = world.tnfd("status")
    assert "healthy" in roots.stdout
    other = world.tnfd("status", user="bob", check=False)
    assert other.returncode == 3
    assert "sudo -u alice tnfd status" in other.stdout


def test_the_units_are_sound_and_hardened(world: World) -> None:
    told = world.machine.run("systemd-analyze", "verify", UNIT)
    assert told.stdout + told.stderr == ""
    table = world.machine.run("systemd-analyze", "security", "--offline=true", UNIT, check=False).stdout
    assert float(table.split("exposure level for")[1].split(":")[1].split()[0]) <= 1.5, table


def test_uninstalling_leaves_nothing_but_what_is_the_users(world: World) -> None:
    told = world.tnfd("service", "uninstall", "--purge").stdout
    assert "/etc/systemd/system/tnfd@.service" in told
    assert world.machine.run("test", "-e", "/var/lib/tnfd/alice", check=False).returncode
    assert world.machine.run("test", "-e", "/etc/credstore/openai-api-key", check=False).returncode
    assert world.machine.run("test", "-e", "/etc/tnfd/config.toml").returncode == 0
    assert world.show(UNIT)["ActiveState"] == "inactive"
    assert "not set up" in world.tnfd("service", "uninstall", "--system", "--run-as", "alice").stdout
