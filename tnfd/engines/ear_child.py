"""What tnfd hears for itself in a cut: how loud it is from moment to moment, and when given words are said.

A worker of ``child_host``; stands alone but for PyAV and, where it is installed, pocketsphinx. It opens only
files that tnfd encoded. Never judges: what a level or a time means is for ``tnfd.rules`` to say.

Requests hold ``path`` (hex of the path's bytes), ``encoding``, and one of these in ``do``:

- ``levels`` answers ``{"levels": hex}``, a byte for every 20 ms: decibels above -100 of full scale.
- ``align`` with ``words: [[word, phones], ...]``, ``start_s``, ``end_s`` answers ``{"spans": [[start_s,
  end_s] or null, ...]}``, one a word; ``phones`` is how a word is said that the dictionary does not know.
- ``copy`` with ``to`` (hex), ``start_s``, ``end_s``, ``pad_s`` writes a stretch, after as much silence, in
  the same encoding or the one named by ``into``; answers ``{"samples": n, "size_bytes": n}``.
"""

from __future__ import annotations

import array
import math
import operator
import os
import wave
from collections.abc import Callable
from fractions import Fraction
from typing import Any

RATE_HZ = 16_000
FRAME_S = 0.02
FLOOR_DB = 100  # a level of 0 is this far below full scale
_FRAME = int(RATE_HZ * FRAME_S)
_STRIDE = 3  # one sample of three tells the loudness as well, in a third of the time
_FULL_SCALE = 32768.0
_FRAMES_PER_S = 100  # of the decoder's times
_LONGEST_S = 120.0  # the search widens with every word that it may stand at
_OPUS = {"application": "voip", "b": "24000", "compression_level": "3", "frame_duration": "60"}

# The words are given: nothing may speak against one but its sound.
_SEARCH = {"lw": 1.0, "wip": 1.0, "beam": 1e-80, "pbeam": 1e-80, "wbeam": 1e-80}

Span = tuple[float, float] | None


def open_worker() -> Callable[[dict[str, Any], Callable[[object], None]], dict[str, Any]]:
    """Return what answers requests."""
    os.nice(5)  # whoever encodes and sends comes first
    ear = Ear()

    def work(request: dict[str, Any], tell: Callable[[object], None]) -> dict[str, Any]:
        del tell
        return ear.answer(request)

    return work


class Ear:
    """Keeps the last recording that was heard: what is asked next is mostly asked of the same."""

    def __init__(self) -> None:
        self._heard: tuple[bytes, int, int] | None = None
        self._samples = array.array("h")
        self._aligner: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one request asks for.

        Raises:
            OSError, ValueError: the file cannot be read, or is not what it should be.
        """
        path = bytes.fromhex(request["path"])
        samples = self._listen(path, request["encoding"])
        match request["do"]:
            case "levels":
                return {"levels": levels(samples).hex()}
            case "align":
                return {"spans": self._align(samples, request)}
            case "copy":
                start, end, pad = (round(request[key] * RATE_HZ) for key in ("start_s", "end_s", "pad_s"))
                stretch = array.array("h", bytes(2 * pad)) + samples[start:end]
                to = bytes.fromhex(request["to"])
                _write(to, request.get("into") or request["encoding"], stretch)
                return {"samples": len(stretch), "size_bytes": os.stat(to).st_size}
        raise ValueError(f"unknown request {request['do']!r}")

    def _listen(self, path: bytes, encoding: str) -> array.array[int]:
        st = os.stat(path)
        key = (path, st.st_ino, st.st_mtime_ns)
        if self._heard != key:
            self._heard, self._samples = None, array.array("h")
            self._samples = _read_pcm(path) if encoding == "pcm" else _decode(path, encoding)
            self._heard = key
        return self._samples

    def _align(self, samples: array.array[int], request: dict[str, Any]) -> list[Span]:
        words, start, end = request["words"], *(round(request[key] * RATE_HZ) for key in ("start_s", "end_s"))
        if self._aligner is None:
            try:
                from pocketsphinx import Decoder
            except ImportError:
                return [None] * len(words)
            # Without a language model: 80 MB instead of 171, and loaded in 0.1 s. A wider beam than the
            # usual 1e-48 finds voices that are unlike the model's (synthetic, accented); 2.5 % of real time.
            self._aligner = Decoder(lm=None, samprate=RATE_HZ, loglevel="FATAL", cmn="batch", **_SEARCH)
        stretch = samples[max(0, start) : end]
        if not words or not 0 < len(stretch) <= _LONGEST_S * RATE_HZ:
            return [None] * len(words)
        return align(self._aligner, stretch, words, offset_s=max(0, start) / RATE_HZ)


def align(
    decoder: Any, samples: array.array[int], words: list[tuple[str, str]], *, offset_s: float
) -> list[Span]:
    """Return when each word is said; None from where on they are not to be found in the sound."""
    for word, phones in words:
        if decoder.lookup_word(word) is None:
            decoder.add_word(word, phones, True)
    try:
        decoder.set_align_text(" ".join(word for word, _ in words))
        decoder.start_utt()
        decoder.process_raw(samples.tobytes(), full_utt=True)
        decoder.end_utt()
        entries = list(decoder.seg() or ())
    except RuntimeError:
        return [None] * len(words)
    spans: list[Span] = []
    for entry in entries:
        if len(spans) < len(words) and _is(entry.word, words[len(spans)][0]):
            start_s, end_s = entry.start_frame / _FRAMES_PER_S, (entry.end_frame + 1) / _FRAMES_PER_S
            spans.append((round(offset_s + start_s, 3), round(offset_s + end_s, 3)))
    return spans + [None] * (len(words) - len(spans))


def _is(found: str, word: str) -> bool:
    return found == word or (found.startswith(word) and found[len(word) :].startswith("("))


def levels(samples: array.array[int]) -> bytes:
    """One byte for each 20 ms: decibels above -100 of full scale, without what is constant."""
    found = bytearray()
    for at in range(0, len(samples), _FRAME):
        frame = samples[at : at + _FRAME : _STRIDE]
        mean = sum(frame) / len(frame)
        power = sum(map(operator.mul, frame, frame)) / len(frame) - mean * mean
        level = 10 * math.log10(power / _FULL_SCALE**2) + FLOOR_DB if power > 0 else 0.0
        found.append(min(max(round(level), 0), FLOOR_DB))
    return bytes(found)


# -- files ----------------------------------------------------------------------------------------------


def _read_pcm(path: bytes) -> array.array[int]:
    samples = array.array("h")
    with open(path, "rb") as file:
        data = file.read()
    samples.frombytes(data[: len(data) - len(data) % 2])
    return samples


def _decode(path: bytes, encoding: str) -> array.array[int]:
    import av

    samples = array.array("h")
    container_format = "wav" if encoding == "wav" else "ogg"
    try:
        options = {"protocol_whitelist": "file"}
        with av.open(os.fsdecode(path), options=options, format=container_format) as container:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
            for frame in container.decode(audio=0):
                for piece in resampler.resample(frame):
                    samples.frombytes(bytes(piece.planes[0])[: piece.samples * 2])
            for piece in resampler.resample(None):
                samples.frombytes(bytes(piece.planes[0])[: piece.samples * 2])
    except av.error.FFmpegError as error:
        raise ValueError(error.strerror or "the cut cannot be decoded") from error
    return samples


def _write(path: bytes, encoding: str, samples: array.array[int]) -> None:
    if encoding == "pcm":
        with open(path, "wb") as file:
            file.write(samples.tobytes())
        return
    if encoding == "wav":
        with wave.open(os.fsdecode(path), "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(RATE_HZ)
            wav.writeframes(samples.tobytes())
        return
    import av

    with av.open(os.fsdecode(path), "w", format="ogg") as container:
        stream: Any = container.add_stream("libopus", rate=RATE_HZ, options=dict(_OPUS))
        stream.layout = "mono"
        stream.thread_count = 1
        done = 0
        block = RATE_HZ
        for at in range(0, len(samples), block):
            part = samples[at : at + block]
            frame = av.AudioFrame("s16", "mono", len(part))
            frame.sample_rate = RATE_HZ
            frame.planes[0].update(part.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
            frame.pts, frame.time_base = done, Fraction(1, RATE_HZ)
            done += len(part)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
