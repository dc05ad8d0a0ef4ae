"""When a batch gives up waiting: pure. Jobs that wait never fail; the same command goes on with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tnfd.errors import CODES
from tnfd.ports.batch import Waits

_DOWN_S = 600.0  # a server that cannot be reached may come back
_DISK_S = 120.0

# Pauses that end by somebody's doing, not by waiting.
_HOPELESS = frozenset(
    {"engine.no_key", "engine.bad_key", "engine.no_quota", "engine.no_model", "engine.not_installed"}
)


@dataclass(frozen=True, slots=True)
class Halt:
    """Why nothing goes on. ``final``: waiting any longer is no use; ``hint``: what can be done."""

    text: str
    hint: str
    final: bool


def decide_halt(waits: Sequence[Waits], stuck_s: float) -> Halt | None:
    """Say why nothing goes on, if nothing does. ``stuck_s``: for how long nothing has been in work."""
    reasons = {wait.reason: wait for wait in waits if wait.reason != "original"}
    if not reasons or reasons.keys() & {"", "retry", "rate_limit"}:
        return None
    halts = [_halt(wait, stuck_s) for wait in reasons.values()]
    return min(halts, key=lambda halt: halt.final)  # what may still come to an end is worth waiting for


def _halt(wait: Waits, stuck_s: float) -> Halt:
    if wait.reason == "paused" or wait.detail == "engine.by_hand":
        return Halt("Paused by command.", "Run: tnfd resume", final=False)
    if wait.reason == "engine_paused":
        code = CODES.get(wait.detail)
        text = code.message if code else f"The engine is paused ({wait.detail})."
        hint = code.hint if code else "See: tnfd status"
        return Halt(text, hint, wait.detail in _HOPELESS or stuck_s > _DOWN_S)
    if wait.reason == "budget":
        hint = "Raise daily_usd or monthly_usd below [budget], or run the same command when they begin anew."
        return Halt(f"The budget is reached: {wait.detail}.", hint, final=True)
    if wait.reason == "config":
        return Halt(
            f"{wait.detail[:1].upper()}{wait.detail[1:]}.", "Configure it again, or use --redo.", final=True
        )
    code = CODES["inbox.lost" if wait.reason == "inbox_lost" else "output.disk_full"]
    return Halt(code.message, code.hint, stuck_s > _DISK_S)
