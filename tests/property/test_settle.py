"""No series of writes, pauses and looks gets a file taken while its writer still has something to say."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from tnfd.model import StatKey
from tnfd.rules.settle import Gone, Lease, Observation, Policy, Ready, Wait, decide_settled

WALL_NS = 1_800_000_000_000_000_000
SETTLE_S = 5.0


@dataclass(frozen=True)
class Stretch:
    """The writer holds the file for a while, then pauses with it closed."""

    held_s: float
    visible: bool  # whether writing shows in the stat (a mapped file on tmpfs does not show it)
    pause_s: float


stretches = st.lists(
    st.builds(
        Stretch,
        held_s=st.floats(1.7, 20),  # longer than between two looks, or it shows in the stat
        visible=st.booleans(),
        pause_s=st.floats(0, SETTLE_S - 0.01),
    )
    | st.builds(
        Stretch, held_s=st.floats(0, 20), visible=st.just(True), pause_s=st.floats(0, SETTLE_S - 0.01)
    ),
    min_size=1,
    max_size=6,
)


class Writer:
    """A file over time."""

    def __init__(self, plan: list[Stretch]) -> None:
        self.held: list[tuple[float, float]] = []
        self.changes: list[float] = [0.0]
        at = 0.0
        for stretch in plan:
            self.held.append((at, at + stretch.held_s))
            if stretch.visible:
                self.changes.append(at + stretch.held_s)
            self.last = at + stretch.held_s
            at = self.last + stretch.pause_s

    def observe(self, at: float, *, leases: bool, jumped_ns: int) -> Observation:
        changes = [change for change in self.changes if change <= at]
        ns = WALL_NS + int(changes[-1] * 1e9)
        busy = any(begin <= at < end for begin, end in self.held)
        return Observation(
            began_at=at,
            ended_at=at,
            wall_ns=WALL_NS + int(at * 1e9) - jumped_ns,
            stat=StatKey(1, 1, len(changes), ns, ns),
            lease=(Lease.BUSY if busy else Lease.FREE) if leases else Lease.UNKNOWN,
        )


@given(
    plan=stretches,
    extra=st.lists(st.floats(0, 150), max_size=20),  # looks that events ask for
    begins=st.just(0.0) | st.floats(0, 30),
    jumped_s=st.floats(0, 1e6),  # the wall clock may have gone back
)
def test_local_files_are_never_taken_early_and_always_in_the_end(
    plan: list[Stretch], extra: list[float], begins: float, jumped_s: float
) -> None:
    # A file met for the first time is judged by its times, so from there on writing must show in them.
    writer = Writer(plan if begins == 0 else [replace(one, visible=True) for one in plan])
    taken_at = _take(writer, Policy.local(SETTLE_S), extra, begins, leases=True, jumped_s=jumped_s)
    assert taken_at >= writer.last
    assert taken_at <= max(begins, writer.last) + 2 * SETTLE_S + 0.1


@given(plan=stretches, extra=st.lists(st.floats(0, 150), max_size=20), begins=st.floats(0, 30))
def test_without_leases_a_file_is_never_taken_before_its_last_visible_change(
    plan: list[Stretch], extra: list[float], begins: float
) -> None:
    writer = Writer([Stretch(one.held_s % 10, True, one.pause_s) for one in plan])
    for policy in (Policy.local(SETTLE_S), Policy.network(SETTLE_S)):
        taken_at = _take(writer, policy, extra, begins, leases=False, jumped_s=0)
        assert taken_at >= max(writer.last, begins) + (0 if begins > writer.last else 1)


def _take(
    writer: Writer, policy: Policy, extra: list[float], begins: float, *, leases: bool, jumped_s: float
) -> float:
    """Look when asked to, and at the extra moments; the second at which it is Ready."""
    settling = None
    extra = sorted(at for at in extra if at > begins)
    at = begins
    while True:
        seen = writer.observe(at, leases=leases, jumped_ns=int(jumped_s * 1e9))
        settling, verdict = decide_settled(settling, seen, policy)
        if isinstance(verdict, Ready):
            return at
        assert isinstance(verdict, Wait), verdict
        assert not isinstance(verdict, Gone)
        assert verdict.look_again_at > at
        at = verdict.look_again_at
        if extra and extra[0] < at:
            at = extra.pop(0)
