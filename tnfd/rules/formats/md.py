"""Markdown: YAML front matter for note-taking programs, a heading, paragraphs, a bold line for each gap.

Text stays text: whatever CommonMark, GitHub or Pandoc would take for markup is escaped with a backslash.
"""

from __future__ import annotations

import json
import re

from tnfd.model import Doubt, Gap
from tnfd.rules.formats.input import RenderInput
from tnfd.rules.formats.txt import gap_mark
from tnfd.rules.names import printable, stem
from tnfd.rules.text import Paragraph, blocks, clean, clock

# JSON's strings are YAML's double-quoted ones (YAML 1.2.2, 7.3.1), but for what YAML does not print (5.1),
# and for marks that turn the writing direction of what follows them.
_UNPRINTED = re.compile("[\x7f-\xa0\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffe\uffff]")
# An underscore within a word is none of CommonMark's marks; & only begins an entity.
_INLINE = re.compile(r"[\\`*\[<~]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")
# Headings, quotes, lists, rules, and Pandoc's definitions, line blocks and title blocks.
_BLOCK = re.compile(r"[#>]|[-+:|%](?=\s|$)|-(?=-)|[0-9]{1,9}(?=[.)](?:\s|$))")


def render(given: RenderInput) -> bytes:
    """Return the file's bytes."""
    lines = [f"# {_heading(_title(given))}"]
    speaker: str | None = None
    for block in blocks(given.transcript):
        if isinstance(block, Gap):
            lines.append(f"**{gap_mark(block)}**")
            continue
        lines.append(_spoken(block, speaker, timed=given.transcript.timestamps != "none"))
        speaker = block.speaker
    return (_front_matter(given) + "\n" + "\n\n".join(lines) + "\n").encode()


def _title(given: RenderInput) -> str:
    return _flat(printable(stem(given.source_name)))


def _front_matter(given: RenderInput) -> str:
    """Return the front matter: flat, as most programs show no nested keys."""
    transcript, engine = given.transcript, given.engine
    fields = {
        "title": _quoted(_title(given)),
        "source": _quoted(printable(given.source_name)),
        "recorded_at": _quoted(given.recorded_at),
        "duration": _quoted(_duration(transcript.duration_s)),
        "duration_s": json.dumps(round(transcript.duration_s, 3)),
        "languages": _list(transcript.languages),
        "engine": _quoted(engine.name if engine else None),
        "model": _quoted(engine.model if engine else None),
        "flags": _list(transcript.flags),
        "gaps": str(len(transcript.gaps)),
    }
    if transcript.doubts:
        fields["doubts"] = _list(tuple(map(_doubtful, transcript.doubts)))
    return "".join(["---\n", *(f"{key}: {value}\n" for key, value in fields.items()), "---\n"])


def _doubtful(doubt: Doubt) -> str:
    return f"{clock(doubt.start_s)} - {clock(doubt.end_s, up=True)}: {doubt.flag}"


def _quoted(text: str | None) -> str:
    if text is None:
        return "null"
    return _UNPRINTED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def _list(texts: tuple[str, ...]) -> str:
    return f"[{', '.join(_quoted(clean(text)) for text in texts)}]"


def _duration(duration_s: float) -> str:
    minutes, seconds = divmod(round(duration_s), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _heading(title: str) -> str:
    escaped = _escaped(title)
    # Number signs at the end of a heading would close it.
    return f"{escaped[:-1]}\\#" if escaped.endswith("#") else escaped


def _spoken(block: Paragraph, before: str | None, *, timed: bool) -> str:
    """Return the text as one line, with the speaker's name and the time where the voice changes."""
    text = _escaped(_flat(block.text))
    if block.speaker is not None and block.speaker != before:
        name = _escaped(_flat(block.speaker))
        return f"**{name}** [{_stamp(block.start_s)}] {text}" if timed else f"**{name}:** {text}"
    begins = _BLOCK.match(text)
    if begins is None:
        return text
    digits = begins.end() if text[0].isdecimal() else 0
    return f"{text[:digits]}\\{text[digits:]}"


def _stamp(at_s: float) -> str:
    minutes, seconds = divmod(int(at_s), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def _escaped(text: str) -> str:
    return _INLINE.sub(r"\\\g<0>", text)


def _flat(text: str) -> str:
    return " ".join(clean(text).split())
