"""Containers made of sized chunks: WAV (RIFF, RF64, BW64), Sony Wave64, AIFF and AIFF-C.

Sources: Microsoft's multimedia programming interface (RIFF), EBU Tech 3306 (RF64), ITU-R BS.2088 (BW64), the
Sony Pictures Digital Wave64 description, Apple's AIFF-C draft of 1991.
"""

from __future__ import annotations

from collections.abc import Iterator

from tnfd.rules.whole.reader import MOST_PARTS, Payload, Reader

_STREAMED = 0xFFFFFFFF  # written where the size is not known, and in RF64 where it stands elsewhere

_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_WAVE = bytes.fromhex("77617665f3acd3118cd100c04f8edb8a")
_W64_FMT = bytes.fromhex("666d7420f3acd3118cd100c04f8edb8a")
_W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")


def prove_wav(reader: Reader) -> Payload | None:
    """Prove a WAV file: its own size is the file's, and its chunks end there, ``data`` among them."""
    head = reader.read(0, 12)
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
        return None
    size, wide = int.from_bytes(head[4:8], "little"), dict[bytes, int]()
    if head[:4] != b"RIFF":
        found = _ds64(reader)
        if found is None:
            return None
        size, wide = found
    elif size == _STREAMED:
        return None
    return _walk(reader, size, "little", wide, (b"fmt ", b"data"))


def prove_aiff(reader: Reader) -> Payload | None:
    """Prove an AIFF or AIFF-C file, as a WAV file with big-endian sizes."""
    head = reader.read(0, 12)
    if head[:4] != b"FORM" or head[8:] not in (b"AIFF", b"AIFC"):
        return None
    return _walk(reader, int.from_bytes(head[4:8], "big"), "big", {}, (b"COMM", b"SSND"))


def _walk(
    reader: Reader, size: int, order: str, wide: dict[bytes, int], needed: tuple[bytes, bytes]
) -> Payload | None:
    end = size + 8
    if reader.size_bytes not in (end, end + (size & 1)):  # some writers do not count the last pad byte
        return None
    seen: dict[bytes, Payload] = {}
    last = 0
    for name, start, count in _chunks(reader, 12, end, order, wide):
        if start + count > end:
            return None
        seen[name] = Payload(start, start + count)
        last = start + count
    if any(name not in seen for name in needed) or last not in (end, end - 1):
        return None
    payload = seen[needed[1]]
    return payload if payload.end > payload.start else None


def _chunks(
    reader: Reader, at: int, end: int, order: str, wide: dict[bytes, int]
) -> Iterator[tuple[bytes, int, int]]:
    """Give name, start and length of each chunk; one whose header is cut has an impossible length."""
    for _ in range(MOST_PARTS):
        if at >= end:
            return
        head = reader.read(at, 8)
        if len(head) < 8 or at + 8 > end:
            if at + 1 < end:  # a lone pad byte is none
                yield b"", at, reader.size_bytes + 1
            return
        count = int.from_bytes(head[4:8], order)  # type: ignore[arg-type]
        if count == _STREAMED:
            count = wide.get(head[:4], reader.size_bytes + 1)
        yield head[:4], at + 8, count
        at += 8 + count + (count & 1)
    yield b"", at, reader.size_bytes + 1


def _ds64(reader: Reader) -> tuple[int, dict[bytes, int]] | None:
    """The sizes that RF64 keeps in its first chunk: of the whole file, and of chunks over 4 GB."""
    head = reader.read(12, 8)
    count = int.from_bytes(head[4:8], "little")
    if head[:4] != b"ds64" or not 28 <= count <= 65536:
        return None
    body = reader.read(20, count)
    if len(body) < count:
        return None
    size, data = int.from_bytes(body[:8], "little"), int.from_bytes(body[8:16], "little")
    wide = {b"data": data}
    entries = int.from_bytes(body[24:28], "little")
    for index in range(min(entries, (count - 28) // 12)):
        entry = body[28 + 12 * index : 40 + 12 * index]
        wide[entry[:4]] = int.from_bytes(entry[4:], "little")
    return size, wide


def prove_w64(reader: Reader) -> Payload | None:
    """Prove a Wave64 file: sizes of 64 bits that count their own headers, chunks aligned to 8 bytes."""
    head = reader.read(0, 40)
    if head[:16] != _W64_RIFF or head[24:] != _W64_WAVE:
        return None
    size = int.from_bytes(head[16:24], "little")
    if size != reader.size_bytes:
        return None
    at, payload, has_format = 40, None, False
    for _ in range(MOST_PARTS):
        if at >= size:
            break
        chunk = reader.read(at, 24)
        count = int.from_bytes(chunk[16:], "little")
        if len(chunk) < 24 or count < 24 or at + count > size:
            return None
        has_format |= chunk[:16] == _W64_FMT
        if chunk[:16] == _W64_DATA:
            payload = Payload(at + 24, at + count)
        at += (count + 7) & ~7
    if at not in range(size, size + 8) or payload is None or payload.end == payload.start:
        return None
    return payload if has_format else None
