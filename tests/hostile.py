"""Recordings made to do harm: a corpus that is built on the spot from small whole files; the same each time.

Each entry is a name and its bytes. What a canary holds (another local file, a local server) tells whether one
of them made a decoder look elsewhere.
"""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.integration import media_files as make

# suffix, encoder, sample rate, container where the suffix does not say
_KINDS = (
    ("wav", "pcm_s16le", 16_000, None), ("mp3", "libmp3lame", 16_000, None), ("m4a", "aac", 16_000, None),
    ("mov", "aac", 16_000, None), ("ogg", "libopus", 48_000, None), ("flac", "flac", 16_000, None),
    ("webm", "libopus", 48_000, None), ("mkv", "ac3", 48_000, None), ("aac", "aac", 16_000, "adts"),
    ("aiff", "pcm_s16be", 8_000, None), ("avi", "libmp3lame", 16_000, None), ("ts", "aac", 16_000, "mpegts"),
    ("au", "pcm_s16be", 8_000, "au"), ("caf", "pcm_s16be", 8_000, None), ("wma", "aac", 16_000, "asf"),
    ("flv", "libmp3lame", 22_050, None), ("ac3", "ac3", 48_000, None), ("tta", "tta", 16_000, None),
)  # fmt: skip
_BOX_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl", b"edts", b"udta", b"meta", b"ilst"}


@dataclass(frozen=True, slots=True)
class Bad:
    """One hostile file; ``name`` says what is wrong with it and ends with its suffix."""

    name: str
    data: bytes


def whole_files(folder: Path) -> dict[str, bytes]:
    """One small whole recording of each kind, by suffix."""
    made = {}
    for suffix, encoder, rate, fmt in _KINDS:
        path = make.audio(folder / f"whole.{suffix}", 0.4, encoder, rate=rate, fmt=fmt)
        made[suffix] = path.read_bytes()
    return made


# -- truncations ------------------------------------------------------------------------------------------


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, bytes]]:
    """(start, end, type) of every box of an MP4, parents before children."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8:
            return
        yield start, min(start + size, end), kind
        if kind in _BOX_PARENTS:
            yield from boxes(data, start + 8 + (4 if kind == b"meta" else 0), min(start + size, end))
        start += size


def truncations(whole: dict[str, bytes], step: int) -> Iterator[Bad]:
    """Cut at every box of the MP4s and in its head and middle, and everywhere in ``step`` places."""
    for suffix, data in whole.items():
        cuts = set(range(0, len(data), max(1, len(data) // step)))
        if suffix in ("m4a", "mov"):
            for start, end, _ in boxes(data):
                cuts |= {start, start + 4, start + 8, (start + end) // 2, end - 1}
        for cut in sorted(cuts):
            yield Bad(f"cut-at-{cut}.{suffix}", data[:cut])


def flips(whole: dict[str, bytes], count: int, first_seed: int = 0) -> Iterator[Bad]:
    """``count`` files with 1 to 64 flipped bits, half of them with all flips in the first 512 bytes."""
    suffixes = sorted(whole)
    for seed in range(first_seed, first_seed + count):
        chance = random.Random(seed)
        suffix = suffixes[seed % len(suffixes)]
        data = bytearray(whole[suffix])
        reach = min(len(data), 512) if chance.random() < 0.5 else len(data)
        for _ in range(chance.choice((1, 2, 8, 64))):
            data[chance.randrange(reach)] ^= 1 << chance.randrange(8)
        yield Bad(f"flip-{seed}.{suffix}", bytes(data))


# -- bombs, huge headers, nests ---------------------------------------------------------------------------


def bombs(whole: dict[str, bytes]) -> Iterator[Bad]:
    """Small files that claim, or unfold into, far too much."""
    sound = make.warble(0.2, 16_000)
    for rate in (0, 1, 2, 3999, 768_001, 2**31 - 1, 2**32 - 1):
        yield Bad(f"rate-{rate}.wav", _wav(sound, rate=rate))
    for channels in (0, 65, 255, 1024, 65_535):
        yield Bad(f"channels-{channels}.wav", _wav(sound * 8, channels=channels))
    for claimed in (0, 2**31, 2**32 - 1):
        yield Bad(f"claims-{claimed}-bytes.wav", _wav(sound, claimed=claimed))
    yield Bad("bits-65535.wav", _wav(sound, bits=65_535))
    yield Bad("many-chunks.wav", _wav(sound, extra=b"junk\x00\x00\x00\x00" * 100_000))
    yield Bad("huge-chunk.wav", _wav(b"", extra=b"LIST" + struct.pack("<I", 2**32 - 1)))
    yield Bad("huge-id3.mp3", b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + whole["mp3"])
    frames = b"TXXX" + struct.pack(">I", 5) + b"\0\0\0a\0b"
    yield Bad("many-id3-frames.mp3", b"ID3\x03\0\0\0\x3f\x7f\x7f" + frames * 60_000 + whole["mp3"])
    yield Bad("zeros.mp3", bytes(1 << 20))
    yield Bad("gzip.mp3", gzip.compress(bytes(50 << 20)))
    for deep in (100, 20_000):
        yield Bad(f"nest-{deep}.m4a", _nest(b"moov", deep))
    yield Bad("wide.m4a", whole["m4a"][:32] + struct.pack(">I4s", 8, b"trak") * 50_000)
    yield Bad("box-2-to-64.m4a", whole["m4a"][:32] + struct.pack(">I4sQ", 1, b"moov", 2**64 - 1))
    table = struct.pack(">I4sIII", 0, b"stsz", 0, 0, 2**32 - 1)
    yield Bad(
        "stsz-2-to-32.m4a", whole["m4a"].replace(b"stsz\0\0\0\0", b"stsz\0\0\0\0\0\0\0\0\xff\xff\xff\xff")
    )
    yield Bad("table-alone.m4a", whole["m4a"][:32] + table)
    yield Bad("ebml-size.webm", whole["webm"][:40] + b"\x18\x53\x80\x67\x01" + b"\xff" * 7)
    yield Bad("ebml-nest.mkv", whole["mkv"][:40] + (b"\x12\x54\xc3\x67\x01" + b"\0" * 6 + b"\xff") * 5_000)
    yield Bad("ogg-streams.ogg", b"".join(_ogg_page(serial) for serial in range(3_000)))
    yield Bad("flac-endless.flac", _flac_claims(whole["flac"]))
    yield Bad("compressed-header.mov", _cmov())


def _wav(data: bytes, *, rate: int = 16_000, channels: int = 1, bits: int = 16, claimed: int | None = None,
         extra: bytes = b"") -> bytes:  # fmt: skip
    size = len(data) if claimed is None else claimed
    width = channels * bits // 8 & 0xFFFF
    head = struct.pack("<HHIIHH", 1, channels, rate, rate * width & 0xFFFFFFFF, width, bits)
    body = b"WAVEfmt \x10\0\0\0" + head + extra + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", (len(body) if claimed is None else claimed) & 0xFFFFFFFF) + body


def _nest(kind: bytes, deep: int) -> bytes:
    return b"".join(struct.pack(">I4s", 8 * (deep - at), kind) for at in range(deep))


def _ogg_page(serial: int) -> bytes:
    head = b"OpusHead\x01\x01\0\0\x80\xbb\0\0\0\0\0"
    return b"OggS\0\x02" + bytes(8) + struct.pack("<III", serial, 0, 0) + bytes([1, len(head)]) + head


def _flac_claims(data: bytes) -> bytes:
    """2^36 - 1 samples in STREAMINFO."""
    return data[:21] + bytes([data[21] | 0x0F]) + b"\xff" * 4 + data[26:]


def _cmov() -> bytes:
    """A compressed moov that unfolds to 64 MB of zeros."""
    packed = zlib.compress(bytes(64 << 20), 9)
    inner = struct.pack(">I4s4s", 12, b"dcom", b"zlib")
    inner += struct.pack(">I4sI", 12 + len(packed), b"cmvd", 64 << 20) + packed
    cmov = struct.pack(">I4s", 8 + len(inner), b"cmov") + inner
    return (
        struct.pack(">I4s4sI", 16, b"ftyp", b"qt  ", 0) + struct.pack(">I4s", 8 + len(cmov), b"moov") + cmov
    )


# -- what leads elsewhere ---------------------------------------------------------------------------------


def lures(whole: dict[str, bytes], canary: Path, url: str) -> Iterator[Bad]:
    """Playlists, descriptions and references to another local file and to a server."""
    here, uri = str(canary), canary.as_uri()
    texts: dict[str, Callable[[str], str]] = {
        "m3u8": lambda at: f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{at}\n#EXT-X-ENDLIST\n",
        "m3u": lambda at: f"#EXTM3U\n#EXTINF:1,a\n{at}\n",
        "pls": lambda at: f"[playlist]\nFile1={at}\nNumberOfEntries=1\n",
        "ffconcat": lambda at: f"ffconcat version 1.0\nfile '{at}'\n",
        "asx": lambda at: f'<asx version="3.0"><entry><ref href="{at}"/></entry></asx>',
        "sdp": lambda at: f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns={at}\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=audio 50000 RTP/AVP 0\na=rtpmap:0 PCMU/8000\n",
        "mpd": lambda at: '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
        f"<Representation><BaseURL>{at}</BaseURL></Representation></AdaptationSet></Period></MPD>",
        "svg": lambda at: f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{at}"/></svg>',
        "xml": lambda at: f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "{at}">]><a>&b;</a>',
        "txt": lambda at: f"{at}\n",
        "rtsp": lambda at: f"rtsptext\n{at}\n",
    }  # fmt: skip
    for kind, text in texts.items():
        for place, at in (("path", here), ("uri", uri), ("http", f"{url}/canary-{kind}")):
            yield Bad(f"{kind}-{place}.mp3", text(at).encode())
            yield Bad(f"{kind}-{place}-padded.wav", b"\n\n  \n" + text(at).encode() + bytes(4096))
    m3u8 = texts["m3u8"](f"{url}/canary-hls").encode()
    yield Bad("riff-then-playlist.wav", b"RIFF\0\0\0\0WAVE" + m3u8)
    yield Bad("id3-then-playlist.mp3", b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + m3u8)
    yield Bad("sound-then-playlist.mp3", whole["mp3"] + m3u8)
    for at, name in ((uri, "file"), (f"{url}/canary-dref", "http")):
        yield Bad(f"dref-{name}.mov", with_reference(whole["mov"], at))
    yield Bad("pdf-and-sound.mp3", b"%PDF-1.4\n1 0 obj<<>>endobj\n" + whole["mp3"] + b"\n%%EOF")
    yield Bad("zip-and-sound.mp3", whole["mp3"] + b"PK\x05\x06" + bytes(18))
    yield Bad("html-and-sound.mp3", f'<script src="{url}/canary-html"></script>'.encode() + whole["mp3"])
    yield Bad("elf.mp3", b"\x7fELF\x02\x01\x01" + bytes(9) + whole["mp3"])
    yield Bad("two-in-one.m4a", whole["m4a"] + whole["webm"] + whole["wav"])


def with_reference(data: bytes, at: str) -> bytes:
    """A QuickTime file whose samples are said to lie elsewhere (its moov comes last: no offset changes)."""
    where = data.index(b"dref") - 4
    entry = struct.pack(">4sI", b"url ", 0) + at.encode() + b"\0"
    entry = struct.pack(">I", 4 + len(entry)) + entry
    dref = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    old = struct.unpack_from(">I", data, where)[0]
    changed = bytearray(data[:where] + dref + data[where + old :])
    for start, end, kind in boxes(data):
        if kind in _BOX_PARENTS and start < where < end:
            size = struct.unpack_from(">I", changed, start)[0]
            struct.pack_into(">I", changed, start, size + len(dref) - old)
    return bytes(changed)


# Names that programs with less care take for options, addresses, patterns or commands.
NAMES = (
    b"-i.wav", b"--help.wav", b"-.wav", b"file:x.wav", b"http:x.wav", b"concat:a|b.wav", b"pipe:0.wav",
    b"%d.wav", b"%s%n.wav", b"$(touch pwned).wav", b"`touch pwned`.wav", b";touch pwned;.wav", b"a\nb.wav",
    b"\x1b[31mred\x1b]0;t\x07.wav", b"\xff\xfe.wav", b"a b  c.wav", b"'\".wav", b"*.wav", b"?.wav",
    b"[a].wav",
    b"#.wav", b"CON.wav", b"a\\b.wav", b"~.wav1.wav", b"\xe2\x80\xae3pm.wav", b"x" * 230 + b".wav",
    "é".encode() + b".wav", "e\u0301.wav".encode(), b"{stem}.wav", b"<b>.wav", b"-->.wav",
)  # fmt: skip
