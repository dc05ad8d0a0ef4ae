"""Writing for people: how wide the screen is, colour where it is wanted, spans of time and money in words."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import datetime

import typer

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_STATES = {
    "settling": "dim",
    "running": "cyan",
    "done": "green",
    "duplicate": "green",
    "partial": "yellow",
    "failed": "red",
    "cancelled": "dim",
    "vanished": "dim",
}


def columns() -> int:
    """Columns to write in: ``$COLUMNS``, the terminal's, or 80."""
    return max(40, shutil.get_terminal_size().columns)


def colourful() -> bool:
    """Whether to write in colour: at a terminal that can, unless NO_COLOR says no; FORCE_COLOR says yes."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def paint(text: str, style: str) -> str:
    """Colour a text where that is wanted; ``style`` may be empty."""
    if not style or not colourful():
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def state_style(state: str) -> str:
    """The style in which a job's state is shown."""
    return _STATES.get(state, "")


def say(line: str = "", *, err: bool = False, prose: bool = False) -> None:
    """Print a line to stdout or stderr. ``prose``: at a terminal it is broken between its words.

    Not so what people copy: commands and paths stay in one piece.
    """
    shown = line.encode("utf-8", "backslashreplace").decode()
    stream = sys.stderr if err else sys.stdout
    if prose and len(shown) > columns() and stream is not None and stream.isatty():
        shown = folded(shown, columns())
    typer.echo(shown, err=err, color=None if err else colourful())


def folded(text: str, width: int) -> str:
    """Break long lines between their words; what goes below is indented. Names stay whole."""
    from tnfd.rules.columns import fold

    lines = []
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip(" "))
        first, *more = fold(line[indent:], width - indent - 2)
        lines += [" " * indent + first, *(" " * (indent + 2) + one for one in more)]
    return "\n".join(lines)


def age(at: datetime, now: datetime) -> str:
    """How long ago, in one unit: ``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    return span((now - at).total_seconds())


def span(passed_s: float) -> str:
    """A span in one unit; what is negative (the clock was set back) is nothing."""
    passed = max(0.0, passed_s)
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if passed < limit:
            return f"{int(passed / unit)} {name}"
    return f"{int(passed / 86400)} d"


def local(at: datetime) -> str:
    """A moment on the clock on the wall, to the second."""
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def soon(at: datetime, now: datetime) -> str:
    """When something will be: ``now``, ``in 5 min``; later than that, by the clock: ``Thu 00:00``."""
    left_s = (at - now).total_seconds()
    if left_s <= 0:
        return "now"
    if left_s < 7200:
        return f"in {span(left_s)}"
    return f"{at.astimezone():%a %H:%M}" if left_s < 6 * 86400 else f"{at.astimezone():%Y-%m-%d %H:%M}"


def audio(length_s: float) -> str:
    """The length of recordings: ``45 s``, ``12 min``, ``2.4 hours``."""
    if length_s < 60:
        return f"{length_s:.0f} s"
    return f"{length_s / 60:.0f} min" if length_s < 3600 else f"{length_s / 3600:.1f} hours"


def dollars(usd: float) -> str:
    """An amount; cents, or as many digits as it takes to see something."""
    return f"${usd:.2f}" if usd >= 0.01 or not usd else f"${usd:.4f}"
