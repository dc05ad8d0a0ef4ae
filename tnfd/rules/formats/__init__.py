"""The output formats: each renders one transcript into the bytes of one file.

Renderers are pure and deterministic: the same transcript gives the same bytes, so that a file on disk can be
recognised by its hash after a crash. Every format marks every gap.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tnfd.model import Transcript
from tnfd.rules.formats.input import RenderInput

if TYPE_CHECKING:
    RENDERERS: dict[str, Callable[[RenderInput], bytes]]  # by format, which is also the extension

__all__ = ["RENDERERS", "RenderInput", "available", "fitting", "needs_times"]

_TIMED = frozenset({"json", "md", "srt", "vtt"})  # formats that show times
_NAMES = ("txt", "md", "srt", "vtt", "json")  # each has a module of its name, with ``render``


def available() -> tuple[str, ...]:
    """Return the names of the formats, which are also their extensions."""
    return _NAMES


def needs_times(formats: Collection[str], speakers: str) -> bool:
    """Whether a transcript must have times: to be shown, or to put channels in order."""
    return speakers == "channels" or not _TIMED.isdisjoint(formats)


def fitting(transcript: Transcript, formats: Collection[str], speakers: str) -> Transcript:
    """Return it as it goes into ``formats``: flagged where those show times that nobody has asked for."""
    if transcript.timestamps != "none" or not transcript.text or not needs_times(formats, speakers):
        return transcript
    return replace(transcript, flags=(*transcript.flags, "coarse_timing"))


def __getattr__(name: str) -> Any:
    # The renderers are a tenth of what a short command would import, and it renders nothing.
    if name != "RENDERERS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = {one: importlib.import_module(f"{__name__}.{one}").render for one in _NAMES}
    globals()[name] = made
    return made
