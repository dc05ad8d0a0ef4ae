"""How much audio a file may hold, guessed from its name and size: for a first look, never for a bill."""

from __future__ import annotations

# Usual bits per second: CD quality, lossless packing, speech codecs, other audio; all else counts as video.
_BITS_PER_S = {
    1_411_000: "aif aifc aiff au caf snd w64 wav",
    800_000: "ape flac tta wv",
    32_000: "amr gsm opus spx",
    112_000: "aac ac3 eac3 m4a m4b m4r mka mp2 mp3 mpa mpc oga ogg ra wma",
}
_BY_EXTENSION = {extension: bits for bits, names in _BITS_PER_S.items() for extension in names.split()}
_VIDEO = 2_500_000


HEAD_BYTES = 64
TELLING = frozenset({"wav", "flac"})  # extensions of files whose first HEAD_BYTES say how long they are


def estimate_audio_s(name: str, size_bytes: int, head: bytes = b"") -> float:
    """Guess the seconds of audio in a recording; off by a factor of two either way is usual.

    With the first bytes of a WAV or FLAC in its usual form there is no need to guess.
    """
    if head[:4] == b"RIFF" and head[8:16] == b"WAVEfmt " and len(head) >= 32:
        bytes_per_s = int.from_bytes(head[28:32], "little")
        if bytes_per_s:
            return size_bytes / bytes_per_s
    if head[:4] == b"fLaC" and len(head) >= 26:
        packed = int.from_bytes(head[18:26], "big")  # rate: 20 bits, 8 others, samples: 36 (RFC 9639, 8.2)
        rate_hz, samples = packed >> 44, packed & (1 << 36) - 1
        if rate_hz and samples:
            return samples / rate_hz
    return size_bytes * 8 / _BY_EXTENSION.get(name.rpartition(".")[2].lower(), _VIDEO)
