"""Writes docs/errors.md from the table in ``tnfd.errors``: ``make docs``; a test compares the two."""

from __future__ import annotations

import itertools
from pathlib import Path

from tnfd.errors import CODES, Code, Fate

TARGET = Path(__file__).with_name("errors.md")

_HEAD = """\
# Error codes

<!-- Made from tnfd/errors.py by docs/make_errors.py: change it there, then run `make docs`. -->

A code never changes its meaning. It stands in the status file (`error.code`, with `message`, `hint` and
`retryable`), in `tnfd show FILE`, and in the log events `job.retry`, `job.failed` and `engine.paused`.

What tnfd does by itself depends on what the error says something about:

| fate | what tnfd does |
|---|---|
"""

_FATES = {
    Fate.FILE: "The file is at fault: the job ends as `failed` at once. `tnfd retry FILE` starts anew.",
    Fate.ATTEMPT: "This try failed: it is counted and made again after a while, `max_attempts` times in all;"
    " then the job ends as `failed`. Where several requests in a row fail like this, the engine is taken to"
    " be down (`engine.down`) and nothing more is counted.",
    Fate.THROTTLE: "The job waits as long as the server asks (`waiting.reason` `rate_limit`); never counted.",
    Fate.ENGINE: "The engine is paused and its jobs wait (`waiting.reason` `engine_paused`), never counted;"
    " a single request now and then finds out whether it is well again.",
    Fate.ADJUST: "The same request is sent again at once, without what the server refused; never counted.",
    Fate.SPLIT: "The piece of audio is cut into smaller ones, which are sent instead; never counted. What"
    " cannot be made smaller cannot be done.",
    Fate.REENCODE: "The piece of audio is encoded anew and sent once more; what is refused again cannot be"
    " done.",
    Fate.WAIT: "The job waits (`waiting.reason` `disk` or `inbox_lost`) and looks again; never counted.",
    Fate.SOURCE: "The file is looked at again from the start; if it left, the job ends as `vanished`.",
}

_FAMILIES = {
    "source": "The source file",
    "media": "Its content",
    "engine": "Engines and servers",
    "output": "Outputs and disks",
    "inbox": "Inboxes",
    "internal": "tnfd itself",
}


def render() -> str:
    """Return the whole document."""
    parts = [_HEAD, *(f"| {fate} | {_FATES[fate]} |\n" for fate in Fate)]
    for family, codes in itertools.groupby(CODES.values(), key=lambda code: code.code.partition(".")[0]):
        parts.append(f"\n## {_FAMILIES[family]}\n\n| code | fate | what is wrong | what you can do |\n")
        parts.append("|---|---|---|---|\n")
        parts += [_row(code) for code in codes]
    return "".join(parts)


def _row(code: Code) -> str:
    cells = (f"`{code.code}`", code.fate, code.message, code.hint)
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
