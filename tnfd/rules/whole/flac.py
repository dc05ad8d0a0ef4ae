"""FLAC: the number of samples is known, and the last frame holds the last of them and ends with the file.

Source: RFC 9639. A tag behind the last frame (ID3v1) takes the proof away.
"""

from __future__ import annotations

from tnfd.rules.whole.reader import Payload, Reader

_MOST_FRAME_BYTES = 1 << 20
_USUAL_FRAME_BYTES = 128 * 1024


def _table8() -> bytes:
    table = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = (value << 1) ^ (0x07 if value & 0x80 else 0)
        table.append(value & 0xFF)
    return bytes(table)


def _table16() -> tuple[int, ...]:
    table = []
    for index in range(256):
        value = index << 8
        for _ in range(8):
            value = (value << 1) ^ (0x8005 if value & 0x8000 else 0)
        table.append(value & 0xFFFF)
    return tuple(table)


_CRC8, _CRC16 = _table8(), _table16()


def prove(reader: Reader) -> Payload | None:
    """Prove it, or return None."""
    at = _begins(reader)
    if reader.read(at, 4) != b"fLaC":
        return None
    at += 4
    info = b""
    while True:
        head = reader.read(at, 4)
        if len(head) < 4:
            return None
        count = int.from_bytes(head[1:], "big")
        if not info:
            info = reader.read(at + 4, 34)
            if head[0] & 0x7F != 0 or count != 34 or len(info) < 34:
                return None
        at += 4 + count
        if head[0] & 0x80:
            break
    total = int.from_bytes(info[13:18], "big") & 0xFFFFFFFFF
    if total == 0 or not any(info[18:34]):  # written before the end was known
        return None
    return Payload(at, reader.size_bytes) if _ends(reader, at, info, total) else None


def _begins(reader: Reader) -> int:
    """Where the stream begins: some taggers put an ID3v2 tag before it."""
    head = reader.read(0, 10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | (byte & 0x7F)
    return 10 + size


def _ends(reader: Reader, first: int, info: bytes, total: int) -> bool:
    """Whether a frame with the last sample stands at the end, its check sum right."""
    most = int.from_bytes(info[7:10], "big") or _USUAL_FRAME_BYTES
    start = max(first, reader.size_bytes - min(most, _MOST_FRAME_BYTES))
    tail = reader.read(start, reader.size_bytes - start)
    at = tail.rfind(b"\xff")
    while at >= 0:
        if tail[at + 1 : at + 2] in (b"\xf8", b"\xf9"):
            last = _last_sample(tail, at, int.from_bytes(info[:2], "big"))
            # A sum that is right with a zero behind the frame is right without it, too.
            if last == total and _is_sound(tail[at:]) and not _is_sound(tail[at:-1]):
                return True
        at = tail.rfind(b"\xff", 0, at)
    return False


def _last_sample(data: bytes, at: int, block: int) -> int | None:
    """The number of samples up to the end of the frame whose header is at ``at``; None: none is there."""
    head = data[at : at + 16]
    if len(head) < 6:
        return None
    number, length = _coded_number(head[4:])
    if number is None:
        return None
    end = 4 + length
    code = head[2] >> 4
    sizes = {1: 192, **{n: 576 << (n - 2) for n in range(2, 6)}, **{n: 256 << (n - 8) for n in range(8, 16)}}
    if code == 6:
        samples, end = int.from_bytes(head[end : end + 1], "big") + 1, end + 1
    elif code == 7:
        samples, end = int.from_bytes(head[end : end + 2], "big") + 1, end + 2
    elif code in sizes:
        samples = sizes[code]
    else:
        return None
    end += {12: 1, 13: 2, 14: 2}.get(head[2] & 0x0F, 0)
    if len(head) <= end or _crc8(head[:end]) != head[end]:
        return None
    begins = number if head[1] & 1 else number * block
    return begins + samples


def _coded_number(data: bytes) -> tuple[int | None, int]:
    """A number in the coding of UTF-8, of up to 7 bytes, and how many it took."""
    first = data[0]
    if first < 0x80:
        return first, 1
    length = next((n for n in range(2, 8) if (first >> (7 - n)) & 1 == 0), 0)
    if first < 0xC0 or not length or len(data) < length:
        return None, 0
    value = first & (0x7F >> length)
    for byte in data[1:length]:
        if byte & 0xC0 != 0x80:
            return None, 0
        value = value << 6 | byte & 0x3F
    return value, length


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _CRC8[value ^ byte]
    return value


def _is_sound(frame: bytes) -> bool:
    """Whether the frame's check sum, its last two bytes, is right."""
    value = 0
    for byte in frame[:-2]:
        value = (value << 8 & 0xFFFF) ^ _CRC16[(value >> 8) ^ byte]
    return value == int.from_bytes(frame[-2:], "big")
