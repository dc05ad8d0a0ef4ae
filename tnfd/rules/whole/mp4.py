"""ISO base media files (MP4, M4A, MOV, 3GP): boxes that walk exactly to the end, with an index in them.

Sources: ISO/IEC 14496-12 (boxes, movie fragments), Apple's QuickTime File Format. A fragmented file is whole
after every fragment, so it needs the index of fragments (``mfra``) that only the end of a recording writes.
"""

from __future__ import annotations

from tnfd.rules.whole.reader import MOST_PARTS, Payload, Reader

_FIRST = frozenset((b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp"))


def prove(reader: Reader) -> Payload | None:
    """Prove it, or return None."""
    if reader.read(4, 4) not in _FIRST:
        return None
    at, boxes = 0, 0
    payload: Payload | None = None
    seen: set[bytes] = set()
    last = b""
    while at < reader.size_bytes:
        box = _box(reader, at)
        boxes += 1
        if box is None or boxes > MOST_PARTS:
            return None
        last, start, end = box
        if end > reader.size_bytes:
            return None
        if last == b"moov" and not _is_sound(reader, start, end):
            return None
        seen.add(last)
        if last == b"mdat" and end > start:
            payload = Payload(start, end)
        at = end
    if b"moov" not in seen or (b"moof" in seen and last != b"mfra"):
        return None
    return payload


def _box(reader: Reader, at: int) -> tuple[bytes, int, int] | None:
    """Return a box's name, and where its content begins and ends; None: not a box of a known size."""
    head = reader.read(at, 16)
    if len(head) < 8 or not all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in head[4:8]):
        return None
    size, start = int.from_bytes(head[:4], "big"), at + 8
    if size == 1:
        size, start = int.from_bytes(head[8:16], "big"), at + 16
    if size < start - at:  # also 0: it goes on to the end of the file, wherever that will be
        return None
    return head[4:8], start, at + size


def _is_sound(reader: Reader, start: int, end: int) -> bool:
    """Whether the boxes of the index fill it, the movie's header and a track among them.

    Space that was set aside for the index, and not written yet, is no index.
    """
    names = set()
    for _ in range(10_000):
        if start == end:
            break
        box = _box(reader, start)
        if box is None or box[2] > end:
            return False
        names.add(box[0])
        start = box[2]
    return start == end and ({b"mvhd", b"trak"} <= names or b"cmov" in names)
