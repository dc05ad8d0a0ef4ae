"""Plain text: paragraphs with an empty line between them, UTF-8, a line in brackets for every gap."""

from __future__ import annotations

from tnfd.model import Gap
from tnfd.rules.formats.input import RenderInput
from tnfd.rules.text import Paragraph, blocks, clock


def render(given: RenderInput) -> bytes:
    """Return the file's bytes; none at all where nothing was said and nothing is missing."""
    lines: list[str] = []
    speaker: str | None = None
    for block in blocks(given.transcript):
        if isinstance(block, Gap):
            lines.append(gap_mark(block))
            continue
        lines.append(_spoken(block, speaker))
        speaker = block.speaker
    return ("\n\n".join(lines) + "\n").encode() if lines else b""


def gap_mark(gap: Gap) -> str:
    """Return ``[12:30 - 14:00: not transcribed: engine.rejected]``."""
    return f"[{clock(gap.start_s)} - {clock(gap.end_s, up=True)}: not transcribed: {gap.error}]"


def _spoken(block: Paragraph, before: str | None) -> str:
    """Return the text, with the speaker's name where the voice changes."""
    if block.speaker is None or block.speaker == before:
        return block.text
    return f"{block.speaker}: {block.text}"
