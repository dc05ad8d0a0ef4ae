"""The worker that holds pocketsphinx, run by ``child_host.py`` in a process of its own.

Stands alone: the standard library and pocketsphinx, nothing of tnfd. pocketsphinx holds the interpreter's
lock while it decodes, which is why it lives there.

Request: ``{"path": hex of the path's bytes}``, raw s16le at 16 kHz, mono. Answer:
``{"utterances": [[[start_s, end_s, word], ...], ...]}``.
"""

from __future__ import annotations

import array
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

RATE_HZ = 16_000
_BYTES_PER_S = 2 * RATE_HZ
_LONGEST_S = 30  # an utterance without a pause is cut here: the decoder's memory grows with its length
_CUT_FROM_S = 20  # ... at the quietest place after this many seconds
_QUIET_S = 0.3
_FRAMES_PER_S = 100  # of the decoder's word times
_FILLER = re.compile(r"[<\[+].*")  # <s> </s> <sil> [NOISE] [SPEECH] ++UH++
_VARIANT = re.compile(r"\(\d+\)$")  # "to(3)" is the third pronunciation of "to"

Utterance = tuple[float, bytes]  # seconds from the start of the audio; s16le
TimedWord = tuple[float, float, str]  # seconds from the start of the audio


Tell = Callable[[object], None]


def open_worker() -> Callable[[dict[str, Any], Tell], dict[str, Any]]:
    """See ``child_host``; the model is loaded at the first request."""
    decoders: list[Any] = []

    def work(request: dict[str, Any], tell: Tell) -> dict[str, Any]:
        if not decoders:
            decoders.append(_decoder())
        return {"utterances": _transcribe(decoders[0], request["path"], tell)}

    return work


def _decoder() -> Any:
    from pocketsphinx import Decoder

    # Without the second pass: 28.7 instead of 30 % word errors, and a third faster (measured).
    return Decoder(samprate=RATE_HZ, loglevel="FATAL", fwdflat=False)


# -- speech ---------------------------------------------------------------------------------------------


def _transcribe(decoder: Any, path: str, tell: Tell) -> list[list[TimedWord]]:
    found = []
    with open(bytes.fromhex(path), "rb") as pcm:
        for start_s, samples in utterances(pcm):
            tell({"at_s": start_s})
            words = _decode(decoder, start_s, samples)
            if words:
                found.append(words)
    return found


def _decode(decoder: Any, start_s: float, samples: bytes) -> list[TimedWord]:
    decoder.start_utt()
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is None:
        return []
    return [
        (
            round(start_s + entry.start_frame / _FRAMES_PER_S, 3),
            round(start_s + (entry.end_frame + 1) / _FRAMES_PER_S, 3),
            _VARIANT.sub("", entry.word),
        )
        for entry in decoder.seg()
        if not _FILLER.fullmatch(entry.word)
    ]


def utterances(pcm: BinaryIO) -> Iterator[Utterance]:
    """Find speech; yield it in pieces of at most 30 s."""
    from pocketsphinx import Endpointer

    endpointer = Endpointer(sample_rate=RATE_HZ)
    start_s = 0.0
    speech = bytearray()
    for frame in _frames(pcm, endpointer.frame_bytes):
        heard = endpointer.process(frame)
        if heard is None:
            continue
        if not speech:
            start_s = endpointer.speech_start
        speech += heard
        if not endpointer.in_speech:
            yield start_s, bytes(speech)
            speech.clear()
        elif len(speech) >= _LONGEST_S * _BYTES_PER_S:
            cut = quietest(speech, _CUT_FROM_S * _BYTES_PER_S)
            yield start_s, bytes(speech[:cut])
            del speech[:cut]
            start_s += cut / _BYTES_PER_S
    if speech:
        yield start_s, bytes(speech)


def _frames(pcm: BinaryIO, frame_bytes: int) -> Iterator[bytes]:
    """Whole frames, then a second of silence.

    The endpointer keeps what it has not yet judged, and its own end_stream drops the last utterance where
    the length is a multiple of a frame (measured, 5.1.1); silence makes it give up everything.
    """
    while frame := pcm.read(frame_bytes):
        yield frame.ljust(frame_bytes, b"\0")
    for _ in range(_BYTES_PER_S // frame_bytes):
        yield bytes(frame_bytes)


def quietest(speech: bytes | bytearray, first: int) -> int:
    """The middle (in bytes) of the quietest 300 ms from byte ``first`` on."""
    samples = array.array("h", bytes(speech[first - first % 2 : len(speech) - len(speech) % 2]))
    step = RATE_HZ // 100
    loudness = [sum(map(abs, samples[at : at + step : 4])) for at in range(0, len(samples) - step + 1, step)]
    width = round(_QUIET_S * 100)
    if len(loudness) <= width:
        return len(speech) - len(speech) % 2
    sums = [sum(loudness[at : at + width]) for at in range(len(loudness) - width + 1)]
    return first - first % 2 + 2 * step * (sums.index(min(sums)) + width // 2)
