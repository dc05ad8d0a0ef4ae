"""The parts of intake that need no disk: mounts, restarts of the watcher, the tables."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from tests.fakes import eventually
from tnfd.intake.bell import Bell
from tnfd.intake.candidates import Candidate, Candidates, Phase
from tnfd.intake.known import Known
from tnfd.intake.mounts import UNKNOWN, Mount, find_mount, parse_mountinfo
from tnfd.intake.status import Status
from tnfd.intake.watch import Restart, decide_restart
from tnfd.model import StatKey
from tnfd.testing import FakeClock

MOUNTINFO = rb"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:20 / /proc rw,nosuid - proc proc rw
40 22 0:40 / /mnt/nas rw - nfs4 nas:/export rw
41 22 0:41 / /mnt/my\040share rw master:2 propagate_from:1 - cifs //srv/x rw
42 22 0:42 / /mnt/usb rw - autofs systemd-1 rw
43 42 8:17 / /mnt/usb rw - vfat /dev/sdb1 rw
44 22 0:44 / /home/u/Cloud rw - fuse.rclone remote: rw
45 40 0:45 / /mnt/nas/scratch rw - tmpfs tmpfs rw
garbage
46 22 0:46 / /mnt/odd\134\011\303\251 rw - xfs /dev/sdc rw
"""


@pytest.mark.parametrize(
    ("path", "fs_type", "kind"),
    [
        (b"/", "ext4", "local"),
        (b"/home/u", "ext4", "local"),
        (b"/mnt/nas", "nfs4", "network"),
        (b"/mnt/nas/in", "nfs4", "network"),
        (b"/mnt/nasty", "ext4", "local"),
        (b"/mnt/nas/scratch/x", "tmpfs", "local"),
        (b"/mnt/my share/in", "cifs", "network"),
        (b"/mnt/usb/in", "vfat", "network"),
        (b"/home/u/Cloud/in", "fuse.rclone", "network"),
        (b"/mnt/odd\\\t\xc3\xa9/in", "xfs", "local"),
    ],
)
def test_the_longest_and_last_mount_counts(path: bytes, fs_type: str, kind: str) -> None:
    mount = find_mount(path, parse_mountinfo(MOUNTINFO))
    assert (mount.fs_type, mount.kind) == (fs_type, kind)


def test_without_mountinfo_a_folder_is_local_and_unknown() -> None:
    assert find_mount(b"/x", ()) == UNKNOWN == Mount(b"/", "")
    assert UNKNOWN.kind == "local"


def test_a_dying_watcher_is_restarted_ever_later_and_then_left_alone() -> None:
    deaths: list[float] = []
    plans = []
    for at in (0.0, 1.0, 2.0, 3.0, 4.0):
        deaths.append(at)
        plans.append(decide_restart(deaths, at, hopeless=False))
    assert plans == [Restart(0.5), Restart(1.0), Restart(2.0), Restart(4.0), Restart(600.0, degraded=True)]
    assert decide_restart([*deaths, 700.0], 700.0, hopeless=False) == Restart(0.5)
    assert decide_restart([0.0], 0.0, hopeless=True) == Restart(600.0, degraded=True)


def test_known_survives_a_new_device_number_and_notices_everything_else() -> None:
    stat = StatKey(1, 2, 3, 4, 5)
    known = Known()
    known.add_all([(b"a", stat)])
    assert known.has(b"a", StatKey(9, 2, 3, 4, 5))
    assert not known.has(b"b", stat)
    for other in (
        StatKey(1, 9, 3, 4, 5),
        StatKey(1, 2, 9, 4, 5),
        StatKey(1, 2, 3, 9, 5),
        StatKey(1, 2, 3, 4, 9),
    ):
        assert not known.has(b"a", other)


def test_known_forgets_what_left_only_once_that_is_most_of_it() -> None:
    known = Known()
    known.add_all((b"%d" % n, StatKey(1, n, 1, 1, 1)) for n in range(100))
    current = {known.mark(b"1", StatKey(1, 1, 1, 1, 1))}
    known.forget_old(current, slack=98)
    assert len(known) == 100
    known.forget_old(current, slack=97)
    assert len(known) == 1
    assert known.has(b"1", StatKey(7, 1, 1, 1, 1))


def candidate(rel: bytes, due: float) -> Candidate:
    return Candidate(rel, datetime(2026, 11, 23, tzinfo=UTC), due, due)


def test_candidates_come_in_the_order_of_their_looks_and_once() -> None:
    table = Candidates()
    a, b, c, d = (candidate(bytes([n]), n) for n in (1, 2, 3, 4))
    for one in (c, a, d, b):
        table.add(one)
    table.schedule(a, 3.5)
    table.remove(b)
    c.phase = Phase.READY
    assert table.next_due() == 3.5
    assert table.take_due(3.0, 10) == []
    assert table.take_due(9.0, 1) == [a]
    assert table.take_due(9.0, 10) == [d]
    assert table.next_due() == float("inf")
    table.schedule(a, 5.0)
    assert table.take_due(5.0, 10) == [a]
    assert len(table) == 3
    assert table.unlooked == 3
    table.looked(a, 5.0)
    table.remove(a)
    table.remove(d)
    assert table.unlooked == 1


async def test_bell_wakes_by_ring_or_by_time() -> None:
    clock = FakeClock()
    bell = Bell(clock)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiter = group.create_task(bell.wait(10.0))
        await eventually(lambda: clock.sleepers == 1)
        await clock.advance(9.9)
        await asyncio.sleep(0)
        assert not waiter.done()
        await clock.advance(0.1)
        await waiter
        waiter = group.create_task(bell.wait(10.0))
        await eventually(lambda: clock.sleepers == 1)
        bell.ring()
        await waiter
        bell.ring()
        await bell.wait(10.0)
        await bell.wait(0.0)
    assert not clock.sleepers


def test_a_silent_file_system_counts_as_lost_and_its_answer_as_back() -> None:
    status = Status("n", b"/x", FakeClock())
    status.watching("events", "ext4")
    status.scanned(7, 0.1)
    assert (status.snapshot(1).state, status.snapshot(1).walked) == ("watching", 7)
    status.hang(21.0)
    lost = status.snapshot(1)
    assert (lost.state, lost.mode, lost.pending) == ("lost", "events", 1)
    assert "does not answer" in lost.why
    status.answer()
    assert status.snapshot(0).state == "watching"
    assert status.snapshot(0).why == "ext4"
