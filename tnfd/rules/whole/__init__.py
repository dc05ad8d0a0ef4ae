"""Whether a container proves that it is whole: pure decisions over a file's bytes.

A proof says that nothing is missing at the end: sizes that add up to the file's, a mark that only the end of
a stream has. It never says that the content can be decoded, and it lies where a writer brings its header up
to date at each pause (a WAV recorder that does so cannot be told from a finished one), and where a live
stream is a chain of whole ones (Icecast's Ogg). So a proof only shortens the quiet time that is asked for,
never replaces the rest. MP3, ADTS, and containers of unknown size prove nothing. Touches no disk: whoever
asks brings a ``Reader``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tnfd.rules.whole import flac, iff, matroska, mp4, ogg
from tnfd.rules.whole.reader import Payload, Reader

__all__ = ["BLANK_BYTES", "Payload", "Proof", "Reader", "has_blank", "prove_whole"]

BLANK_BYTES = 64 * 1024  # a preallocated file shows by zeros in the last of its payload

_CODED_BLANK_BYTES = 16 * 1024  # the least that BitTorrent asks for at once; coded audio has no such zeros
_CODED_TAIL_BYTES = 1024
_ZEROS = bytes(BLANK_BYTES)


@dataclass(frozen=True, slots=True)
class Proof:
    """The container is whole. ``blank_bytes``: that many zeros, aligned, inside of it speak against it."""

    container: str
    blank_bytes: int


# Container, its prover, the zeros inside that speak against it, the bytes at the end that must not be zeros.
_PROVERS: tuple[tuple[str, Callable[[Reader], Payload | None], int, int], ...] = (
    ("wav", iff.prove_wav, BLANK_BYTES, BLANK_BYTES),
    ("w64", iff.prove_w64, BLANK_BYTES, BLANK_BYTES),
    ("aiff", iff.prove_aiff, BLANK_BYTES, BLANK_BYTES),
    ("mp4", mp4.prove, _CODED_BLANK_BYTES, _CODED_TAIL_BYTES),
    ("ogg", ogg.prove, _CODED_BLANK_BYTES, _CODED_TAIL_BYTES),
    ("flac", flac.prove, _CODED_BLANK_BYTES, _CODED_TAIL_BYTES),
    ("matroska", matroska.prove, _CODED_BLANK_BYTES, _CODED_TAIL_BYTES),
)


def prove_whole(reader: Reader) -> Proof | None:
    """Return the proof that the file is whole, or None: that proves nothing either way.

    A file with holes, and one whose payload ends in zeros, is never proven. Each prover knows its container
    by its first bytes, so names do not matter.
    """
    if reader.has_holes:
        return None
    for container, prove, blank_bytes, tail_bytes in _PROVERS:
        payload = prove(reader)
        if payload is not None:
            start = max(payload.start, payload.end - tail_bytes)
            tail = reader.read(start, payload.end - start)
            return Proof(container, blank_bytes) if any(tail) else None
    return None


def has_blank(data: bytes | bytearray | memoryview, blank_bytes: int) -> bool:
    """Whether one of the aligned blocks of ``blank_bytes`` (at most 64 KiB) in ``data`` is all zeros."""
    view, zeros = memoryview(data), _ZEROS[:blank_bytes]
    return any(
        view[at : at + blank_bytes] == zeros for at in range(0, len(view) - blank_bytes + 1, blank_bytes)
    )
