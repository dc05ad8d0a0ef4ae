"""Files that look like recordings to whoever does not decode them: whole Ogg pages around seeded noise."""

from __future__ import annotations

import random
import struct
from pathlib import Path

from tnfd.ports.engine import EngineChunk

_PAGE_BYTES = 255 * 255


def write_opus(path: Path, *, seconds: float, size_bytes: int = 20_000, seed: int = 0) -> EngineChunk:
    """Write an Ogg/Opus file that claims ``seconds`` of audio, and return it as a cut.

    Equal arguments give equal bytes. It holds noise for packets and no checksums: no decoder takes it.
    """
    pre_skip = 312
    noise = random.Random(seed)  # noqa: S311  # filler
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, pre_skip, 48_000, 0, 0)
    last = pre_skip + round(seconds * 48_000)
    with path.open("wb") as file:
        written = file.write(_page(head, 0, number=0, flags=2))
        number = 1
        while written < size_bytes - _PAGE_BYTES:
            written += file.write(_page(noise.randbytes(_PAGE_BYTES), -1, number=number, flags=0))
            number += 1
        body = noise.randbytes(min(_PAGE_BYTES, max(1, size_bytes - written)))
        file.write(_page(body, last, number=number, flags=4))
    return EngineChunk(path, "opus", seconds, path.stat().st_size)


def _page(body: bytes, granule: int, *, number: int, flags: int) -> bytes:
    full, rest = divmod(len(body), 255)
    lacing = bytes([255] * full + [rest])[:255]
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, 1, number, 0, len(lacing))
    return head + lacing + body
