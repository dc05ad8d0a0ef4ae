"""What the work on a job says of itself while it goes on, for whoever shows it; nothing depends on it."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Stage(StrEnum):
    """What is being done for a job."""

    PREPARING = "preparing"  # decoded and encoded
    WAITING = "waiting"  # for permission to send
    TRANSCRIBING = "transcribing"  # a request is under way
    WRITING = "writing"


class Progress(Protocol):
    """Hears of stages. Calls return at once and never raise."""

    def reached(self, job: str, stage: Stage, *, done: int = 0, total: int = 0) -> None:
        """A job has come to a stage; ``done`` of ``total`` pieces are transcribed (0 of 0: as before)."""
        ...

    def measured(self, job: str, audio_s: float) -> None:
        """The length of a job's recording is known."""
        ...

    def spent(self, job: str, cost_usd: float) -> None:
        """A request of a job has ended and cost so much; what was lost on the way counts."""
        ...


class Unheard:
    """Progress that nobody follows."""

    def reached(self, job: str, stage: Stage, *, done: int = 0, total: int = 0) -> None:
        """See the port."""

    def measured(self, job: str, audio_s: float) -> None:
        """See the port."""

    def spent(self, job: str, cost_usd: float) -> None:
        """See the port."""
