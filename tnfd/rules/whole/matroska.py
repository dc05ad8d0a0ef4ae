"""Matroska and WebM: a segment of known size that ends with the file, filled by elements of known sizes.

Sources: RFC 8794 (EBML), RFC 9559 (Matroska). A recorder leaves the sizes unknown until it has ended.
"""

from __future__ import annotations

from tnfd.rules.whole.reader import MOST_PARTS, Payload, Reader

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_TRACKS, _CLUSTER, _VOID = b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75", b"\xec"


def prove(reader: Reader) -> Payload | None:
    """Prove it, or return None."""
    header = _element(reader, 0)
    if header is None or header[0] != _EBML:
        return None
    at, segments, payload = header[2], 0, None
    while at < reader.size_bytes:
        element = _element(reader, at)
        if element is None or element[2] > reader.size_bytes:
            return None
        name, start, at = element
        if name == _SEGMENT:
            segments += 1
            payload = _segment(reader, start, at)
            if payload is None:
                return None
        elif name != _VOID:
            return None
    return payload if segments == 1 else None


def _segment(reader: Reader, at: int, end: int) -> Payload | None:
    """Where the last cluster lies; None: the elements do not fill the segment, or something is missing."""
    payload, has_tracks = None, False
    for _ in range(MOST_PARTS):
        if at == end:
            return payload if has_tracks else None
        element = _element(reader, at)
        if element is None or element[2] > end:
            return None
        name, start, at = element
        has_tracks |= name == _TRACKS
        if name == _CLUSTER and at > start:
            payload = Payload(start, at)
    return None


def _element(reader: Reader, at: int) -> tuple[bytes, int, int] | None:
    """An element's id, and where its content begins and ends; None: none of a known size is there."""
    head = reader.read(at, 12)
    name = _length(head[:1], 4)
    size = _length(head[name : name + 1], 8) if name else 0
    if not size or len(head) < name + size:
        return None
    value = int.from_bytes(head[name : name + size], "big") & ((1 << 7 * size) - 1)
    if value == (1 << 7 * size) - 1:
        return None  # unknown: it goes on until something else begins
    start = at + name + size
    return head[:name], start, start + value


def _length(first: bytes, most: int) -> int:
    """How many bytes a number of variable length takes, by its first; 0: it is none."""
    for length in range(1, most + 1):
        if first and first[0] >> (8 - length) & 1:
            return length
    return 0
