"""Which engine of a list does a transcription: pure.

The first that is not paused. What has been paid for stays with the engine that was paid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paused:
    """An engine that is paused for ``code``; ``probe_at``: when one request may try it (None: by command).

    ``may_probe``: that moment has come, and nobody else is about to.
    """

    code: str
    probe_at: float | None
    may_probe: bool = False


def choose_engine(
    names: Sequence[str], paid: str | None, paused: Mapping[str, Paused], *, begins: bool
) -> tuple[str, str]:
    """The engine's name, and why it is not the first of the list ("": it is).

    ``begins``: the transcription begins right now, and may be the request that finds out whether an engine
    works again. Where all are paused, it waits for the one that is probed first.
    """
    if paid is not None:
        return paid, ""
    for name in names:
        pause = paused.get(name)
        if pause is None or (begins and pause.may_probe):
            return name, _why(names, name, paused)
    name = min(names, key=lambda one: _probe_at(paused[one]))  # the first of those that are equal
    return name, _why(names, name, paused)


def _probe_at(pause: Paused) -> float:
    return float("inf") if pause.probe_at is None else pause.probe_at


def _why(names: Sequence[str], chosen: str, paused: Mapping[str, Paused]) -> str:
    before = names[: names.index(chosen)]
    return "; ".join(f"{name} is paused: {paused[name].code}" for name in before)
