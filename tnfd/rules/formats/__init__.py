"""The output formats: each renders one transcript into the bytes of one file.

Renderers are pure and deterministic: the same transcript gives the same bytes, so that a file on disk can be
recognised by its hash after a crash. Every format marks every gap.
"""

from __future__ import annotations

from collections.abc import Callable

from tnfd.rules.formats import json, md, srt, txt, vtt
from tnfd.rules.formats.input import RenderInput

__all__ = ["RENDERERS", "TIMED", "RenderInput", "available"]

TIMED = frozenset({"json", "md", "srt", "vtt"})  # formats that show times, where the engine gives them

RENDERERS: dict[str, Callable[[RenderInput], bytes]] = {
    "txt": txt.render,
    "md": md.render,
    "srt": srt.render,
    "vtt": vtt.render,
    "json": json.render,
}


def available() -> tuple[str, ...]:
    """Return the names of the formats, which are also their extensions."""
    return tuple(RENDERERS)
