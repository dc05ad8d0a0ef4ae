"""What the test server does with an upload where it shall answer what it hears: decode it and understand it.

Runs in processes of its own, so that the server goes on answering; uses PyAV.
"""

from __future__ import annotations

import io
import os
from array import array
from typing import Any

from tnfd.testing.seconds import HEARD_RATE, hear

_WORDS_A_SEGMENT = 8


def start() -> None:
    """Be modest: what is measured has the processors first."""
    os.nice(10)


def answer(audio: bytes) -> dict[str, Any]:
    """What whisper-1 would say, as verbose_json with words."""
    samples = decoded(audio)
    words: list[dict[str, Any]] = [
        {"word": one.word, "start": round(one.start_s, 2), "end": round(one.end_s, 2)}
        for one in hear(samples)
    ]
    segments: list[dict[str, Any]] = []
    for at in range(0, len(words), _WORDS_A_SEGMENT):
        part = words[at : at + _WORDS_A_SEGMENT]
        text = " " + " ".join(one["word"] for one in part)
        segments.append(
            {"id": len(segments), "start": part[0]["start"], "end": part[-1]["end"], "text": text}
        )
    return {
        "task": "transcribe",
        "language": "english",
        "duration": len(samples) / HEARD_RATE,
        "text": " ".join(one["word"] for one in words),
        "segments": segments,
        "words": words,
    }


def decoded(audio: bytes) -> array[int]:
    """The whole upload, s16 mono at HEARD_RATE."""
    import av

    samples = array("h")
    with av.open(io.BytesIO(audio)) as container:
        resampler = av.AudioResampler("s16", "mono", HEARD_RATE)
        for frame in container.decode(audio=0):
            for part in resampler.resample(frame):
                samples.frombytes(bytes(part.planes[0])[: 2 * part.samples])
        for part in resampler.resample(None):
            samples.frombytes(bytes(part.planes[0])[: 2 * part.samples])
    return samples
