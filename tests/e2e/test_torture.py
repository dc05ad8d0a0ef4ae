"""Killed hundreds of times (``make torture``), a few dozen with every test: nothing lost or paid twice."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from tests.e2e import test_kill
from tests.e2e.crash import After, Tally, all_points, can_mount, torture

# Steps of the usual way, where every world comes by; those of `after` only where files are moved or deleted.
USUAL = sorted(point for point in all_points() if not point.startswith(("after.", "adopt.")))
MOVING = ["after.planned", "after.renamed", "after.recorded", "after.over"]
DELETING = ["after.planned", "after.hidden", "after.recorded", "after.cleared", "after.over"]
ACROSS = ["after.copied", "after.named", "after.hidden", "after.recorded", "after.over"]


def test_every_step_that_the_code_names_is_tortured() -> None:
    tried = {point.partition(":")[0] for point in test_kill.POINTS} - {"server.received"}
    assert tried | set(USUAL) | set(MOVING) | set(DELETING) | set(ACROSS) | {"adopt.reserved"} == all_points()
    assert tried <= all_points()


async def test_two_worlds_killed_again_and_again(tmp_path: Path) -> None:
    """About 20 kills: every step at which files are moved, and moments that nobody chose."""
    tally = Tally()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            torture(tmp_path / "a", 1, "move", [*MOVING, None, None, None, "batch.taken"], tally)
        )
        group.create_task(torture(tmp_path / "b", 2, "keep", [None, "store.committed", None, None], tally))
        group.create_task(
            torture(tmp_path / "c", 3, "delete", ["after.hidden", None, "after.cleared"], tally)
        )
    assert tally.kills >= 12, tally
    assert tally.by_step["adopt.reserved"] == 1


def plan(kills: int, seed: int, *, across: bool) -> list[tuple[After, list[str | None]]]:
    """Worlds of 12 kills each: every step many times, and half as many random moments."""
    chance = random.Random(seed)
    kinds: list[tuple[After, list[str]]] = [
        ("keep", USUAL),
        ("move", MOVING),
        ("keep", USUAL),
        ("delete", DELETING),
    ]
    if across:
        kinds.append(("across", ACROSS))
    decks: dict[str, list[str]] = {}
    worlds: list[tuple[After, list[str | None]]] = []
    while sum(len(steps) for _, steps in worlds) < kills:
        after, special = kinds[len(worlds) % len(kinds)]
        steps: list[str | None] = []
        for number in range(12):
            if number % 3 == 2:
                steps.append(None)
                continue
            deck = decks.setdefault(after, [])
            if not deck:
                deck += special if after == "keep" else [*special, *chance.sample(USUAL, 4)]
                chance.shuffle(deck)
            steps.append(deck.pop())
        worlds.append((after, steps))
    return worlds


@pytest.mark.torture
@pytest.mark.timeout(7200)
async def test_hundreds_of_kills(tmp_path: Path) -> None:
    kills, seed = int(os.environ.get("TNFD_KILLS", "560")), int(os.environ.get("TNFD_SEED", "1"))
    across = can_mount(tmp_path / "probe")
    tally, at_once = Tally(), asyncio.Semaphore(3)

    async def one(number: int, after: After, steps: list[str | None]) -> None:
        async with at_once:
            await torture(tmp_path / f"world-{number}", seed * 1000 + number, after, steps, tally)
            print(f"world {number} ({after}): {tally}", flush=True)  # noqa: T201  a long run shows that it moves

    async with asyncio.TaskGroup() as group:
        for number, (after, steps) in enumerate(plan(kills, seed, across=across)):
            group.create_task(one(number, after, steps))
    print(tally)  # noqa: T201  figures for docs/guarantees.md
    assert tally.kills >= 0.9 * kills
    wanted = all_points() if across else all_points() - {"after.copied", "after.named"}
    assert kills < 500 or set(tally.by_step) >= wanted, wanted - set(tally.by_step)
