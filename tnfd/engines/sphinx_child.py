"""The process that holds pocketsphinx: requests on stdin, answers on stdout; ends when its parent does.

Stands alone: the standard library, pocketsphinx and ``confine``, nothing else of tnfd, so that it starts quickly and can be run
as a file. pocketsphinx holds the interpreter's lock while it decodes, which is why it lives here.

A frame is four bytes of length (big endian) and that much JSON. Request: ``{"path": hex of the path's
bytes}``, raw s16le at 16 kHz, mono. Answer: ``{"utterances": [[[start_s, end_s, word], ...], ...]}`` or
``{"error": text}``. Ends with 0 when stdin ends or nothing came for ``idle_s`` seconds.
"""

from __future__ import annotations

import array
import json
import os
import re
import resource
import select
import signal
import struct
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

RATE_HZ = 16_000
_BYTES_PER_S = 2 * RATE_HZ
_LONGEST_S = 30  # an utterance without a pause is cut here: the decoder's memory grows with its length
_CUT_FROM_S = 20  # ... at the quietest place after this many seconds
_QUIET_S = 0.3
_FRAMES_PER_S = 100  # of the decoder's word times
_FRAME_MAX_BYTES = 16 * 1024 * 1024
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_LIMIT_BYTES = 2 * 1024**3  # of memory; 309 MB resident was measured
_FILLER = re.compile(r"[<\[+].*")  # <s> </s> <sil> [NOISE] [SPEECH] ++UH++
_VARIANT = re.compile(r"\(\d+\)$")  # "to(3)" is the third pronunciation of "to"

Utterance = tuple[float, bytes]  # seconds from the start of the audio; s16le
TimedWord = tuple[float, float, str]  # seconds from the start of the audio


def main() -> None:
    """Serve requests: ``sphinx_child.py IDLE_S PARENT_PID``."""
    idle_s, parent = float(sys.argv[1]), int(sys.argv[2])
    _tie_to(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, 1024 * 1024))  # what stderr may fill
    _limit_memory()
    _shut_off()
    requests = sys.stdin.buffer.raw if hasattr(sys.stdin.buffer, "raw") else sys.stdin.buffer
    # What a library prints must not get between the frames.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    decoder: Any = None
    while (request := _read_frame(requests, idle_s)) is not None:
        if decoder is None:
            decoder = _decoder()
        try:
            answer: dict[str, Any] = {"utterances": _transcribe(decoder, request["path"], parent)}
        except OSError as error:
            answer = {"error": error.strerror or "the audio cannot be read"}
        except (RuntimeError, ValueError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        _write_frame(answers, answer)


def _tie_to(parent: int) -> None:
    """End with the parent, even when it is killed in the middle of a long decoding."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        raise SystemExit(0)


def _limit_memory() -> None:
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (_LIMIT_BYTES, _LIMIT_BYTES))


def _shut_off() -> None:
    """Refuse sockets and programs; where that cannot be had, ``tnfd doctor`` says so."""
    if __package__:
        from tnfd import confine
    else:  # run by its file: the module is loaded by its own
        import importlib.util

        place = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "confine.py")
        spec = importlib.util.spec_from_file_location("confine", place)
        if spec is None or spec.loader is None:
            return
        confine = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(confine)
    confine.shut_off(forks=False)


def _decoder() -> Any:
    from pocketsphinx import Decoder

    # Without the second pass: 28.7 instead of 30 % word errors, and a third faster (measured).
    return Decoder(samprate=RATE_HZ, loglevel="FATAL", fwdflat=False)


# -- frames ---------------------------------------------------------------------------------------------


def _read_frame(source: Any, idle_s: float) -> dict[str, Any] | None:
    """Wait for the next request; None when stdin ends or nothing comes."""
    ready, _, _ = select.select([source], [], [], idle_s)
    head = _read_exactly(source, 4) if ready else b""
    if len(head) < 4:
        return None
    (length,) = struct.unpack(">I", head)
    if length > _FRAME_MAX_BYTES:
        raise ValueError("a frame is too long")
    frame: dict[str, Any] = json.loads(_read_exactly(source, length))
    return frame


def _read_exactly(source: Any, length: int) -> bytes:
    data = b""
    while len(data) < length and (more := source.read(length - len(data))):
        data += more
    return data


def _write_frame(sink: BinaryIO, frame: dict[str, Any]) -> None:
    body = json.dumps(frame).encode()
    sink.write(struct.pack(">I", len(body)) + body)
    sink.flush()


# -- speech ---------------------------------------------------------------------------------------------


def _transcribe(decoder: Any, path: str, parent: int) -> list[list[TimedWord]]:
    found = []
    with open(bytes.fromhex(path), "rb") as pcm:
        for start_s, samples in utterances(pcm):
            if os.getppid() != parent:  # where PDEATHSIG does not exist
                raise SystemExit(0)
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


if __name__ == "__main__":
    main()
