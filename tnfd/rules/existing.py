"""Which files beside a recording are a transcript of it, by their names. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from tnfd.rules.names import MAX_NAME_BYTES, candidate_names, fold, stem

# What players and people call transcripts and subtitles; md and json are so only where they were asked for.
EXTENSIONS = ("txt", "srt", "vtt", "ass", "ssa", "sub", "sbv", "lrc", "smi", "ttml", "dfxp")

# movie.en.srt, movie.pt-BR.vtt, movie.eng.forced.srt
_TAGGED = re.compile(r"(?:[a-z]{2,3}(?:-[a-z0-9]{2,8})?)(?:\.(?:forced|sdh|cc))?\.([a-z]{3,4})")


def transcripts_of(
    input_name: bytes,
    folded: Collection[str],
    formats: Sequence[str],
    name_format: str,
    *,
    limit: int = MAX_NAME_BYTES,
) -> tuple[str, ...]:
    """Those of the ``folded`` names in a folder that are transcripts of ``input_name``, sorted."""
    wanted = {
        fold(whole + b"." + extension.encode())
        for extension in (*EXTENSIONS, *formats)
        for whole in (stem(input_name), input_name)
    }
    wanted |= {
        fold(next(candidate_names(input_name, name, name_format, None, "", limit=limit))) for name in formats
    }
    prefix = fold(stem(input_name)) + "."
    found = {name for name in wanted if name in folded}
    for name in folded:
        tagged = _TAGGED.fullmatch(name, len(prefix)) if name.startswith(prefix) else None
        if tagged and (tagged[1] in EXTENSIONS or tagged[1] in formats):
            found.add(name)
    return tuple(sorted(found - {fold(input_name)}))
