"""Ogg (Vorbis, Opus, Speex, FLAC, Theora): the last page ends with the file and says that it is the last.

Sources: RFC 3533 (pages), RFC 7845 (Opus). A chain of streams is whole after every link, which nothing in it
tells.
"""

from __future__ import annotations

from tnfd.rules.whole.reader import Payload, Reader

_MOST_PAGE_BYTES = 27 + 255 + 255 * 255
_TAIL_BYTES = 4 * _MOST_PAGE_BYTES  # the last pages of sound and picture lie close to one another
_BEGINS, _ENDS = 2, 4
_POLYNOMIAL = 0x04C11DB7


def _table() -> tuple[int, ...]:
    table = []
    for index in range(256):
        value = index << 24
        for _ in range(8):
            value = (value << 1) ^ (_POLYNOMIAL if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return tuple(table)


_CRC = _table()


def prove(reader: Reader) -> Payload | None:
    """Prove it, or return None."""
    if reader.read(0, 4) != b"OggS":
        return None
    begun = _begun(reader)
    start = max(0, reader.size_bytes - _TAIL_BYTES)
    tail = reader.read(start, reader.size_bytes - start)
    ended: set[bytes] = set()
    at = tail.find(b"OggS")
    last: tuple[int, int] | None = None
    while at >= 0:
        end = _page_end(tail, at)
        # The letters may stand in a packet, too; what begins a page is followed by the next one, or the end.
        if end is not None and (end == len(tail) or tail[end : end + 4] == b"OggS"):
            if tail[at + 5] & _ENDS:
                ended.add(tail[at + 14 : at + 18])
            last = at, end
            at = tail.find(b"OggS", end)
        else:
            at = tail.find(b"OggS", at + 1)
    if last is None or last[1] != len(tail) or not tail[last[0] + 5] & _ENDS:
        return None
    if not begun or not begun <= ended or not _is_sound(tail[last[0] : last[1]]):
        return None
    return Payload(0, reader.size_bytes)


def _begun(reader: Reader) -> set[bytes]:
    """The serial numbers of the streams that begin with the file; all do before any goes on."""
    head = reader.read(0, _TAIL_BYTES)
    serials: set[bytes] = set()
    at = 0
    while head[at : at + 4] == b"OggS" and len(head) >= at + 27 and head[at + 5] & _BEGINS:
        serials.add(head[at + 14 : at + 18])
        end = _page_end(head, at)
        if end is None:
            break
        at = end
    return serials


def _page_end(data: bytes, at: int) -> int | None:
    """Where a page ends; None: it is cut."""
    if len(data) < at + 27 or data[at + 4] != 0:
        return None
    segments = data[at + 26]
    table = data[at + 27 : at + 27 + segments]
    end = at + 27 + segments + sum(table)
    return end if len(table) == segments and end <= len(data) else None


def _is_sound(page: bytes) -> bool:
    """Whether the page's check sum is right."""
    value = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        value = (value << 8 & 0xFFFFFFFF) ^ _CRC[(value >> 24) ^ byte]
    return value == int.from_bytes(page[22:26], "little")
