r"""SubRip subtitles, UTF-8 with ``\n``.

The format has no escapes, and players take ``<b`` and ``{\`` for the start of markup. A word joiner (U+2060),
which nobody sees, keeps what looks like tags, overrides, arrows and times from being taken for such.
"""

from __future__ import annotations

import re

from tnfd.rules.formats.cues import Cue, cues
from tnfd.rules.formats.input import RenderInput

JOINER = "\u2060"

_MARKUP = re.compile(r"--(?=>)|<(?=[\s/]*[A-Za-z])|\{(?=\\)|:\d\d?:\d\d?(?=[.,]\d)")


def render(given: RenderInput) -> bytes:
    """Return the file's bytes; none at all where nothing was said and nothing is missing."""
    found = cues(given.transcript, named=True)
    return "".join(_block(number, cue) for number, cue in enumerate(found, 1)).encode()


def _block(number: int, cue: Cue) -> str:
    lines = "\n".join(_MARKUP.sub(rf"\g<0>{JOINER}", line) for line in cue.lines)
    return f"{number}\n{_clock(cue.start_ms)} --> {_clock(cue.end_ms)}\n{lines}\n\n"


def _clock(at_ms: int) -> str:
    seconds, ms = divmod(at_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02},{ms:03}"
