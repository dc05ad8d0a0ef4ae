"""How long the work on a job took, without the time that it stood waiting. Owns nothing else; asks nobody."""

from __future__ import annotations

from dataclasses import dataclass

from tnfd.ports.clock import Clock
from tnfd.ports.progress import Stage


@dataclass(slots=True)
class _Watch:
    begun: float
    since: float
    stage: Stage = Stage.WAITING
    in_flight: int = 0
    worked_s: float = 0.0

    @property
    def works(self) -> bool:
        return self.in_flight > 0 or self.stage in (Stage.PREPARING, Stage.WRITING)


class Stopwatch:
    """A ``ports.progress.Progress``: adds up the work on each job in this process, over all attempts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watches: dict[str, _Watch] = {}

    def reached(self, job: str, stage: Stage, *, done: int = 0, total: int = 0) -> None:  # noqa: ARG002
        """See ``ports.progress``."""
        watch = self._read(job)
        watch.stage = stage
        if stage is Stage.TRANSCRIBING:
            watch.in_flight += 1

    def measured(self, job: str, audio_s: float) -> None:
        """See ``ports.progress``."""

    def spent(self, job: str, cost_usd: float) -> None:  # noqa: ARG002
        """See ``ports.progress``."""
        watch = self._read(job)
        watch.in_flight = max(0, watch.in_flight - 1)

    def rest(self, job: str) -> None:
        """A job was put aside, and goes on later."""
        watch = self._read(job)
        watch.stage, watch.in_flight = Stage.WAITING, 0

    def end(self, job: str) -> tuple[float, float]:
        """Seconds of work on a job that has ended, and seconds that it waited since it was first heard of.

        It is not kept any longer.
        """
        watch = self._read(job)
        del self._watches[job]
        return watch.worked_s, watch.since - watch.begun - watch.worked_s

    def _read(self, job: str) -> _Watch:
        """The watch of a job, brought up to now."""
        now = self._clock.monotonic()
        watch = self._watches.setdefault(job, _Watch(now, now))
        if watch.works:
            watch.worked_s += now - watch.since
        watch.since = now
        return watch
