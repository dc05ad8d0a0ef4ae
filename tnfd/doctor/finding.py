"""What a check says, and the patience it has with what hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Mark(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"  # it works, but probably not as meant
    FAIL = "fail"  # it cannot work


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was found, why that matters, the command that mends it."""

    area: str  # configuration, engine NAME, inbox NAME, file events, state folder, daemon, service, ...
    mark: Mark
    what: str
    why: str = ""
    mend: str = ""


class Hangs(Exception):
    """A call has not come back in time."""


def within(limit_s: float, call: Callable[[], T]) -> T:
    """Run a blocking call, but wait for it only so long; one that hangs is left behind.

    Raises:
        Hangs: it has not come back.
        Exception: whatever the call raised.
    """
    outcome: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    if errors:
        raise errors[0]
    if not outcome:
        raise Hangs
    return outcome[0]
