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


def estimate_audio_s(name: str, size_bytes: int) -> float:
    """Guess the seconds of audio in a recording; off by a factor of two either way is usual."""
    return size_bytes * 8 / _BY_EXTENSION.get(name.rpartition(".")[2].lower(), _VIDEO)
