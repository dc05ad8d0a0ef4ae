"""Speech to measure with, whose every word's time is known: spoken by Debian's espeak-ng and flite.

``spoken_by_espeak`` asks the synthesiser when it says each word; ``spoken_by_flite`` joins words that were
spoken one by one. Recordings of people come from a folder with a ``manifest.json`` (``--audio``) and stay
there.
"""

from __future__ import annotations

import array
import ctypes
import functools
import json
import random
import subprocess
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

RATE_HZ = 16_000

TEXTS = (
    "The lighthouse stands where the river meets the sea. Every evening, the keeper climbs its hundred "
    "and twelve steps, lights the lamp, and writes the weather into a book. Nobody reads the book. He writes "
    "it anyway, because his father did, and because one day somebody may ask.",
    "Mr. Pemberton opened the meeting at 9:30. There were 14 people in the room, two of them from Zurich. "
    "The budget, he said, would grow by 3.5% next year; in 1998 it had been smaller than the cost of coffee. "
    "Mrs. Okonkwo laughed. Then the discussion began, and it did not end before noon.",
    "When you repair an old clock, do not begin with the hands. Look at the spring first. If it is broken, "
    "nothing else matters; if it is whole, listen. A clock that limps will tell you what is wrong with it, "
    "once you have learned to wait.",
    "Our train leaves Kristiansund on Thursday, unless the ferry is late again. We have tickets for the "
    "whole family, a basket with bread and cheese, and three books that nobody has started. My sister "
    "wants to see the mountains. I want to sleep.",
    "A garden needs less water than people think. It needs shade at noon, and it needs patience. Plant the "
    "beans in May. Leave the apples alone. By the end of September you will have more than your neighbours "
    "can eat, and that is the moment when they remember your birthday.",
)


@dataclass(frozen=True, slots=True)
class Spoken:
    """Sound, what is said in it, and when each word (as it stands in the text) begins; seconds."""

    name: str
    samples: array.array[int]
    text: str
    starts_s: tuple[float, ...]

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return len(self.samples) / RATE_HZ


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):  # espeak_EVENT of speak_lib.h
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
_WORD, _SYNCHRONOUS, _RATE = 1, 2, 1


@functools.cache
def _espeak() -> tuple[Any, int]:
    """The library, opened once: it does not survive being opened again."""
    library = ctypes.CDLL("libespeak-ng.so.1")
    return library, library.espeak_Initialize(_SYNCHRONOUS, 0, None, 0)


def spoken_by_espeak(text: str, *, voice: str = "en-us", words_per_minute: int = 160) -> Spoken:
    """Speak a text (ASCII); the times are those of the synthesiser's own events."""
    library, rate_hz = _espeak()
    sound = bytearray()
    starts: dict[int, float] = {}  # position in the text -> seconds

    def heard(data: Any, count: int, events: Any) -> int:
        if data and count:
            sound.extend(ctypes.string_at(data, 2 * count))
        at = 0
        while events[at].type:
            if events[at].type == _WORD:
                starts.setdefault(events[at].text_position - 1, events[at].sample / rate_hz)
            at += 1
        return 0

    callback = _CALLBACK(heard)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(voice.encode())
    library.espeak_SetParameter(_RATE, words_per_minute, 0)
    given = text.encode("ascii")
    library.espeak_Synth(given, len(given) + 1, 0, 1, 0, 1, None, None)
    library.espeak_Synchronize()
    found: list[float] = []
    at = 0
    for word in text.split():
        at = text.index(word, at)
        inside = [second for place, second in starts.items() if at <= place < at + len(word)]
        found.append(min(inside) if inside else -1.0)
        at += len(word)
    return Spoken(f"espeak {voice} {words_per_minute}", resampled(bytes(sound), rate_hz), text, tuple(found))


def spoken_by_flite(text: str, *, voice: str = "slt") -> Spoken:
    """Speak a text word by word and join the words, with a pause after each mark."""
    samples = array.array("h", bytes(2 * RATE_HZ // 2))
    starts: list[float] = []
    for word in text.split():
        said = _trimmed(_flite(word.strip(",.;:"), voice))
        starts.append(len(samples) / RATE_HZ)
        samples += said
        pause_s = 0.6 if word[-1] in ".?!" else 0.3 if word[-1] in ",;:" else 0.02
        samples += array.array("h", bytes(2 * round(pause_s * RATE_HZ)))
    return Spoken(f"flite {voice}", samples, text, tuple(starts))


def _flite(text: str, voice: str) -> array.array[int]:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", file.name], check=True)
        return decoded(Path(file.name))


def _trimmed(samples: array.array[int], quiet: int = 250) -> array.array[int]:
    loud = [at for at in range(0, len(samples), 40) if abs(samples[at]) > quiet]
    return samples[max(0, loud[0] - 160) : loud[-1] + 480] if loud else samples


def resampled(data: bytes, rate_hz: int) -> array.array[int]:
    """Bring s16le mono to 16 kHz."""
    frame = av.AudioFrame("s16", "mono", len(data) // 2)
    frame.sample_rate = rate_hz
    frame.planes[0].update(data.ljust(frame.planes[0].buffer_size, b"\0"))
    return _resampled([frame])


def decoded(path: Path) -> array.array[int]:
    """Read a recording as 16 kHz mono."""
    with av.open(str(path)) as container:
        return _resampled(container.decode(audio=0))


def _resampled(frames: Any) -> array.array[int]:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
    samples = array.array("h")
    for frame in [*frames, None]:
        for piece in resampler.resample(frame):
            samples.frombytes(bytes(piece.planes[0])[: piece.samples * 2])
    return samples


def write_wav(path: Path, samples: array.array[int], *, channels: int = 1) -> None:
    """Write 16 kHz s16; ``samples`` interleaved where there are several channels."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.tobytes())


def noise(seconds: float, *, level: int, seed: int = 1) -> array.array[int]:
    """White noise of some loudness (peak)."""
    chance = random.Random(seed)
    return array.array("h", (chance.randint(-level, level) for _ in range(round(seconds * RATE_HZ))))


@dataclass(frozen=True, slots=True)
class Recording:
    """One real recording with what is said in it."""

    name: str
    path: Path
    text: str


def recordings(folder: Path, *, without: Sequence[str] = ()) -> list[Recording]:
    """English recordings of one voice, by their manifest."""
    rows = json.loads((folder / "manifest.json").read_text("utf-8"))
    return [
        Recording(row["file"], folder / row["file"], row["text"])
        for row in rows
        if row["language"] == "en" and row["file"] not in without and not row["text"].startswith("L: ")
    ]
