"""Recordings made on the spot for the media tests."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

CHUNK = 1152


def warble(seconds: float, rate: int, channels: int = 1, *, seed: int = 1) -> bytes:
    """s16 interleaved: a voice-like hum that never repeats, at a third of full scale."""
    noise = random.Random(seed)
    phase, samples = 0.0, []
    pitch = 120.0
    for index in range(round(seconds * rate)):
        if index % 1000 == 0:
            pitch = noise.uniform(90, 250)
        phase += 2 * math.pi * pitch / rate
        samples.append(int(9000 * math.sin(phase) + 1500 * math.sin(5.1 * phase)))
    return b"".join(struct.pack("<h", sample) * channels for sample in samples)


def frames(pcm: bytes, rate: int, layout: str, *, start_s: float = 0.0) -> Iterator[Any]:
    width = 2 * (2 if layout == "stereo" else 1)
    for offset in range(0, len(pcm), CHUNK * width):
        part = pcm[offset : offset + CHUNK * width]
        frame = av.AudioFrame("s16", layout, len(part) // width)
        frame.planes[0].update(part + bytes(frame.planes[0].buffer_size - len(part)))
        frame.sample_rate = rate
        frame.pts = round(start_s * rate) + offset // width
        frame.time_base = Fraction(1, rate)
        yield frame


def audio(
    path: Path,
    seconds: float,
    codec: str,
    *,
    rate: int = 44_100,
    layout: str = "mono",
    fmt: str | None = None,
) -> Path:
    """One audio stream."""
    pcm = warble(seconds, rate, 2 if layout == "stereo" else 1)
    with av.open(str(path), "w", format=fmt) as out:
        stream: Any = out.add_stream(codec, rate=rate)
        stream.layout = layout
        for frame in frames(pcm, rate, layout):
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def film(
    path: Path,
    seconds: float,
    tracks: list[tuple[str, float]],
    *,
    video: bool = True,
    audio_start_s: float = 0.0,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A picture of 32 x 32 and AAC tracks, each (language, its own number of seconds)."""
    with av.open(str(path), "w") as out:
        out.metadata.update(metadata or {})
        picture: Any = None
        if video:
            picture = out.add_stream("mpeg4", rate=10)
            picture.width = picture.height = 32
            picture.pix_fmt = "yuv420p"
        sounds: list[Any] = []
        for language, _ in tracks:
            stream: Any = out.add_stream("aac", rate=16_000)
            stream.layout = "mono"
            stream.metadata["language"] = language
            sounds.append(stream)
        if picture is not None:
            for number in range(round(seconds * 10)):
                frame = av.VideoFrame(32, 32, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes([number % 256]) * plane.buffer_size)
                frame.pts = number
                frame.time_base = Fraction(1, 10)
                out.mux(picture.encode(frame))
            out.mux(picture.encode(None))
        for stream, (_, length_s) in zip(sounds, tracks, strict=True):
            for block in frames(warble(length_s, 16_000), 16_000, "mono", start_s=audio_start_s):
                out.mux(stream.encode(block))
            out.mux(stream.encode(None))
    return path


def wav_header(data_bytes: int, rate: int, channels: int = 1) -> bytes:
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", 36 + data_bytes, b"WAVE", b"fmt ", 16, 1, channels, rate,
        rate * channels * 2, channels * 2, 16, b"data", data_bytes,
    )  # fmt: skip


def wav(path: Path, seconds: float, *, rate: int = 16_000, channels: int = 1, claimed_rate: int = 0) -> Path:
    pcm = warble(seconds, rate, channels)
    path.write_bytes(wav_header(len(pcm), claimed_rate or rate, channels) + pcm)
    return path


def long_silence(path: Path, hours: float) -> Path:
    """A WAV of zeros that takes no room on disk and minutes to decode."""
    data_bytes = round(hours * 3600 * 8000) * 2
    with path.open("wb") as out:
        out.write(wav_header(data_bytes, 8000))
        out.truncate(44 + data_bytes)
    return path


def seconds_of(path: Path) -> float:
    """How much audio a decoder finds in a file."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return sum((frame.samples / frame.sample_rate for frame in container.decode(stream)), 0.0)
