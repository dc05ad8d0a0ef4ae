"""Containers made by a real encoder: whole ones are proven, no beginning of one ever is."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.media_files import frames, warble
from tnfd.rules.whole import BLANK_BYTES, has_blank, prove_whole
from tnfd.rules.whole.reader import Bytes

# name: (muxer, codec, rate, the muxer's options, the container as proofs name it)
MADE: dict[str, tuple[str, str, int, dict[str, str], str]] = {
    "wav": ("wav", "pcm_s16le", 16_000, {}, "wav"),
    "rf64": ("wav", "pcm_s16le", 16_000, {"rf64": "always"}, "wav"),
    "w64": ("w64", "pcm_s16le", 16_000, {}, "w64"),
    "aiff": ("aiff", "pcm_s16be", 16_000, {}, "aiff"),
    "m4a": ("ipod", "aac", 16_000, {}, "mp4"),
    "mp4 with its index first": ("mp4", "aac", 16_000, {"movflags": "faststart"}, "mp4"),
    "mp4 in fragments": ("mp4", "aac", 16_000, {"movflags": "frag_keyframe+empty_moov"}, "mp4"),
    "mov": ("mov", "pcm_s16le", 16_000, {}, "mp4"),
    "opus": ("opus", "libopus", 16_000, {}, "ogg"),
    "flac": ("flac", "flac", 16_000, {}, "flac"),
    "flac in ogg": ("ogg", "flac", 16_000, {}, "ogg"),
    "mka": ("matroska", "aac", 16_000, {"cluster_time_limit": "300"}, "matroska"),
    "webm": ("webm", "libopus", 16_000, {"cluster_time_limit": "300"}, "matroska"),
}
UNPROVABLE = {
    "mp3": ("mp3", "libmp3lame", 16_000, {}),
    "adts": ("adts", "aac", 16_000, {}),
    "live matroska": ("matroska", "aac", 16_000, {"live": "1"}),
}


@cache
def hum(seconds: float, rate: int) -> bytes:
    return warble(seconds, rate)


def make(path: Path, muxer: str, codec: str, rate: int, options: dict[str, str], seconds: float) -> bytes:
    with av.open(str(path), "w", format=muxer, options=options) as out:
        stream: Any = out.add_stream(codec, rate=rate)
        stream.layout = "mono"
        for frame in frames(hum(seconds, rate), rate, "mono"):
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path.read_bytes()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A few kilobytes of each."""
    folder = tmp_path_factory.mktemp("short")
    return {name: make(folder / f"{name}.x", *row[:4], 0.7) for name, row in MADE.items()}


@pytest.mark.parametrize("name", MADE)
def test_a_whole_container_is_proven_and_no_beginning_of_it_is(name: str, short: dict[str, bytes]) -> None:
    whole = short[name]
    proof = prove_whole(Bytes(whole))
    assert proof is not None
    assert proof.container == MADE[name][4]
    # What holds up to 4 bytes less is a container without its last pad byte, which some writers leave out.
    proven = [cut for cut in range(len(whole)) if prove_whole(Bytes(whole[:cut])) is not None]
    assert proven in ([], [len(whole) - 1])
    if proven:
        assert whole[-1] == 0


@pytest.mark.parametrize("name", MADE)
def test_more_at_the_end_than_belongs_there_is_no_proof(name: str, short: dict[str, bytes]) -> None:
    for extra in (b"\0", b"\0" * 4, b"TAG" + b"x" * 125, b"\xff" * 1000):
        assert prove_whole(Bytes(short[name] + extra)) is None


@pytest.mark.parametrize("name", MADE)
def test_a_file_with_holes_is_not_proven(name: str, short: dict[str, bytes]) -> None:
    assert prove_whole(Bytes(short[name], has_holes=True)) is None


@pytest.mark.parametrize("name", UNPROVABLE)
def test_what_has_no_end_of_its_own_is_not_proven(name: str, tmp_path: Path) -> None:
    assert prove_whole(Bytes(make(tmp_path / "x", *UNPROVABLE[name], 0.7))) is None


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Some hundred kilobytes of those whose header says everything from the start."""
    folder = tmp_path_factory.mktemp("long")
    return {name: make(folder / f"{name}.x", *row[:4], 12.0) for name, row in MADE.items()}


@pytest.mark.parametrize("name", MADE)
def test_a_preallocated_file_is_not_proven_before_its_end_is_there(name: str, long: dict[str, bytes]) -> None:
    """The whole length is there from the start, and filled from the beginning, as a download does it."""
    whole = long[name]
    chance = random.Random(name)
    missing = BLANK_BYTES if MADE[name][4] in ("wav", "w64", "aiff") else 4096
    assert prove_whole(Bytes(whole)) is not None
    for there in [len(whole) - missing, *(chance.randrange(len(whole) - missing) for _ in range(60))]:
        assert prove_whole(Bytes(whole[:there] + bytes(len(whole) - there))) is None


@pytest.mark.parametrize("name", MADE)
def test_one_that_is_filled_in_any_order_shows_by_its_zeros(name: str, long: dict[str, bytes]) -> None:
    """Pieces come as they like; where the end came first, what is missing shows while it is hashed."""
    whole = long[name]
    chance = random.Random(name)
    piece = 4 * BLANK_BYTES if MADE[name][4] in ("wav", "w64", "aiff") else 32 * 1024
    starts = list(range(0, len(whole), piece))
    for _ in range(20):
        there = set(chance.sample(starts, chance.randrange(len(starts))))
        data = b"".join(
            whole[at : at + piece] if at in there else bytes(len(whole[at : at + piece])) for at in starts
        )
        proof = prove_whole(Bytes(data))
        missing = [len(whole[at : at + piece]) for at in starts if at not in there]
        if proof is not None and max(missing) >= 2 * proof.blank_bytes:
            assert has_blank(data, proof.blank_bytes)


@given(data=st.binary(max_size=400), head=st.sampled_from(sorted(MADE)))
def test_whatever_stands_in_a_file_nothing_breaks(short: dict[str, bytes], data: bytes, head: str) -> None:
    whole = short[head]
    prove_whole(Bytes(data))
    prove_whole(Bytes(whole[: len(data)] + data))
    prove_whole(Bytes(whole[: len(whole) - len(data)] + data))


@given(at=st.integers(0, 5000), value=st.integers(0, 255), head=st.sampled_from(sorted(MADE)))
def test_one_wrong_byte_breaks_nothing(short: dict[str, bytes], at: int, value: int, head: str) -> None:
    damaged = bytearray(short[head])
    damaged[at % len(damaged)] = value
    prove_whole(Bytes(bytes(damaged)))


# -- by hand: what no encoder writes ----------------------------------------------


def riff(*chunks: tuple[bytes, bytes], size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1) for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


FMT, SOUND = (b"fmt ", bytes(16)), (b"data", b"sound" * 100)


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (riff(FMT, SOUND), True),
        (riff(FMT, SOUND, (b"LIST", b"tags" * 5)), True),
        (riff(FMT, (b"data", b"odd" * 33)), True),
        (riff(FMT, (b"data", b"")), False),
        (riff(FMT), False),
        (riff(SOUND), False),
        (riff(FMT, SOUND, size=0), False),
        (riff(FMT, SOUND, size=0xFFFFFFFF), False),
        (riff(FMT, SOUND) + b"junk", False),
        (riff(FMT, (b"data", bytes(70_000))), False),  # a second and a half of digital silence
        (riff(FMT, (b"data", b"sound" * 20_000 + bytes(70_000))), False),
    ],
)
def test_wav(data: bytes, whole: bool) -> None:
    assert (prove_whole(Bytes(data)) is not None) is whole


def box(name: bytes, data: bytes = b"", *, size: int | None = None, wide: bool = False) -> bytes:
    if wide:
        return struct.pack(">I4sQ", 1, name, 16 + len(data)) + data
    return struct.pack(">I4s", 8 + len(data) if size is None else size, name) + data


MOOV = box(b"moov", box(b"mvhd", bytes(100)) + box(b"trak", bytes(10)))
FTYP, MDAT = box(b"ftyp", b"isom"), box(b"mdat", b"sound" * 100)


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (FTYP + MDAT + MOOV, True),
        (FTYP + MOOV + MDAT, True),
        (FTYP + box(b"mdat", b"sound" * 100, wide=True) + MOOV, True),
        (FTYP + MOOV + MDAT + box(b"free", bytes(5000)), True),
        (FTYP + MOOV + box(b"mdat", b"sound" * 100, size=0), False),  # to the end of the file, wherever it is
        (FTYP + MDAT, False),
        (FTYP + MOOV, False),
        (FTYP + MDAT + box(b"moov", bytes(200)), False),  # set aside for the index
        (FTYP + MOOV + MDAT + bytes(8), False),
        (FTYP + MOOV + box(b"moof", b"x") + MDAT, False),  # a recorder in fragments may go on
        (FTYP + MOOV + box(b"moof", b"x") + MDAT + box(b"mfra", b"x"), True),
        (FTYP + MOOV + box(b"mdat", b"s" * 9000 + bytes(2000)), False),
    ],
)
def test_mp4(data: bytes, whole: bool) -> None:
    assert (prove_whole(Bytes(data)) is not None) is whole


@pytest.mark.parametrize(
    ("data", "blank"),
    [
        (bytes(BLANK_BYTES), True),
        (b"x" + bytes(BLANK_BYTES), False),
        (b"x" + bytes(2 * BLANK_BYTES), True),
        (b"x" * 10, False),
        (b"", False),
        (bytes(BLANK_BYTES - 1), False),
    ],
)
def test_blank(data: bytes, blank: bool) -> None:
    take: Callable[[bytes], Any] = bytes
    assert has_blank(take(data), BLANK_BYTES) is blank
    assert has_blank(memoryview(bytearray(data)), BLANK_BYTES) is blank
