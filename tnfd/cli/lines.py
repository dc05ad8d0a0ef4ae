"""A batch's progress where there is no terminal: one line a file as it ends, and what goes wrong."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from tnfd.batch.board import Board, Event, Item, Result
from tnfd.batch.report import dollars, hours
from tnfd.ports.clock import Clock
from tnfd.rules.names import for_terminal

_EVERY_S = 0.25


class LinesView:
    """Writes to stderr; a context manager."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._ended = 0
        self._waits = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._flush()

    async def pulse(self, clock: Clock) -> None:
        """Write what has happened, until cancelled."""
        while True:
            self._flush()
            await clock.sleep(_EVERY_S)

    def _flush(self) -> None:
        while self._board.events:
            line = self._line(self._board.events.popleft())
            if line:
                self._write(line)
        if self._board.waits != self._waits:
            self._waits = self._board.waits
            if self._waits:
                self._write(f"Waiting: {self._waits}")

    def _line(self, event: Event) -> str:
        if event.text or event.item is None:
            return event.text
        self._ended += 1
        if event.item.result is Result.ALREADY:
            return ""
        return f"[{self._ended}/{len(self._board.items)}] {line_of(event.item)}"

    @staticmethod
    def _write(line: str) -> None:
        try:
            sys.stderr.write(line.encode("utf-8", "backslashreplace").decode() + "\n")
            sys.stderr.flush()
        except OSError:
            return  # nobody listens any more; the work goes on


def line_of(item: Item) -> str:
    """What came of a file, in a line."""
    name = for_terminal(item.ref.rel)
    job = item.final
    if job is not None and job.error is not None:
        return f"{item.result}: {name}: {job.error.message}"
    if item.result in (Result.DONE, Result.DUPLICATE, Result.PARTIAL):
        cost = f", {dollars(item.cost_usd)}" if item.cost_usd else ""
        return f"{item.result}: {name} ({hours(item.length_s)}{cost})"
    return f"{item.result}: {name}" + (f": {item.reason}" if item.reason else "")
