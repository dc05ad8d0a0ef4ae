"""A batch's progress in a terminal: what is in progress, a bar, and above them what goes wrong."""

from __future__ import annotations

import shutil
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tnfd.batch.board import Board, Event, Item, Result
from tnfd.batch.report import clock as stopwatch
from tnfd.batch.report import dollars
from tnfd.cli.lines import line_of
from tnfd.errors import CODES
from tnfd.ports.clock import Clock
from tnfd.ports.ledger import EngineStatus
from tnfd.ports.progress import Stage
from tnfd.rules.names import for_terminal

_EVERY_S = 0.25
_MARGIN = 3  # the terminal itself writes ^C there; on a line of its own it would spoil the picture
_SHOWN = (Result.FAILED, Result.PARTIAL, Result.CANCELLED, Result.VANISHED, Result.GROWING)
_STAGES = {
    Stage.PREPARING: "preparing",
    Stage.WAITING: "waiting for a slot",
    Stage.TRANSCRIBING: "transcribing",
    Stage.WRITING: "writing",
    "settling": "being written to?",
    "hashing": "reading",
    "elsewhere": "in other hands",
}
_STYLES = {"warning": "yellow", "error": "red"}


class LiveView:
    """Draws to stderr; a context manager. Nothing of it is left on the screen but the lines above it."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._began: float | None = None

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._flush()
        self._live.update(Text(), refresh=True)
        self._live.stop()

    async def pulse(self, clock: Clock) -> None:
        """Draw again and again, until cancelled."""
        self._began = clock.monotonic()
        while True:
            self._flush()
            self._live.update(self._picture(clock.monotonic()), refresh=True)
            await clock.sleep(_EVERY_S)

    def _flush(self) -> None:
        while self._board.events:
            event = self._board.events.popleft()
            line = self._line(event)
            if line is not None:
                self._console.print(line)

    @staticmethod
    def _line(event: Event) -> Text | None:
        if event.text:
            return Text(event.text, _STYLES.get(event.level, ""))
        if event.item is None or event.item.result not in _SHOWN:
            return None
        return Text(line_of(event.item), "red" if event.item.result is Result.FAILED else "yellow")

    # -- the picture -----------------------------------------------------------------------------------

    def _picture(self, now: float) -> RenderableType:
        width, height = shutil.get_terminal_size()
        busy = self._board.busy
        room = max(1, height - 5)
        rows = Table.grid(padding=(0, 2), expand=True)
        rows.width = width - _MARGIN
        rows.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        rows.add_column(width=18, no_wrap=True)
        rows.add_column(width=7, justify="right", no_wrap=True)
        for item in busy[:room]:
            rows.add_row(*self._row(item, now, width))
        parts: list[RenderableType] = [rows]
        if len(busy) > room:
            parts.append(Text(f"  and {len(busy) - room} more", "dim"))
        parts += [Text(note, "yellow", no_wrap=True, overflow="ellipsis") for note in self._notes()]
        parts.append(self._bar(now, width - _MARGIN))
        return Group(*parts)

    def _row(self, item: Item, now: float, width: int) -> tuple[Text, Text, Text]:
        stage = _STAGES.get(item.stage, item.stage)
        if item.stage == Stage.TRANSCRIBING and item.total > 1:
            stage = f"{stage} {item.done + 1}/{item.total}"
        style = "" if item.stage in (Stage.TRANSCRIBING, Stage.WRITING) else "dim"
        name = _shortened(for_terminal(item.ref.rel), max(10, width - 33 - _MARGIN))
        return Text("  " + name, style), Text(stage, style), Text(stopwatch(now - item.since), "dim")

    def _notes(self) -> list[str]:
        board = self._board
        notes = [board.waits] if board.waits else []
        for engine in board.engines:
            if engine.state != "ok" and engine.until is not None and not board.waits:
                left_s = (engine.until - board.clock.now()).total_seconds()
                when = f"tried again in {stopwatch(left_s)}" if left_s > 0 else "is being tried"
                notes.append(f"{engine.name} {_trouble(engine)}; {when}")
        return notes

    def _bar(self, now: float, width: int) -> Table:
        board = self._board
        total_s = board.total_s or 1.0
        under_way_s = sum(item.length_s * item.done / item.total for item in board.busy if item.total)
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.width = width
        bar.add_column(no_wrap=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True)
        left_s = board.left_s()
        passed = stopwatch(now - (self._began or now))
        words = [_span(board.ended_s, total_s), passed]
        words += [] if left_s is None else [f"ETA {stopwatch(left_s)}"]
        if board.cost_usd:
            words.append(dollars(board.cost_usd))
        bar.add_row(
            f"{board.ended}/{len(board.items)} files",
            ProgressBar(total=total_s, completed=min(board.ended_s + under_way_s, total_s)),
            "  ".join(words),
        )
        return bar


def _trouble(engine: EngineStatus) -> str:
    if engine.state == "throttled":
        return "asks to slow down"
    code = CODES.get(engine.code)
    return f"is paused: {code.message.removesuffix('.')}" if code else f"is paused ({engine.code})"


def _span(done_s: float, total_s: float) -> str:
    """``4.2/9.1 min``, ``0.4/12.0 h``."""
    unit, name = (3600.0, "h") if total_s >= 5400 else (60.0, "min")
    return f"{done_s / unit:.1f}/{total_s / unit:.1f} {name}"


def _shortened(name: str, width: int) -> str:
    """A name that fits; its end tells more than its middle."""
    if len(name) <= width:
        return name
    keep = max(8, width // 3)
    return f"{name[: width - keep - 1]}…{name[-keep:]}"
