"""Where one cut ends and the next begins: pure bookkeeping of samples and bytes, no audio, no files.

Today a recording is one cut, so the only decision is that it does not fit.
"""

from __future__ import annotations

from tnfd.errors import Fault
from tnfd.media.limits import MAX_AUDIO_S
from tnfd.model import SAMPLE_RATE_HZ

# A header may promise a little more than the decoder yields (encoder delay, the last packet's padding).
_PROMISE_TOLERANCE = 1.02


class Cutter:
    """Watches one recording grow against what one request to the engine may hold.

    ``max_s`` seconds and ``max_bytes`` encoded bytes bound a cut.
    """

    def __init__(self, *, max_s: float, max_bytes: int) -> None:
        self._max_s = max_s
        self._max_samples = int(min(max_s, MAX_AUDIO_S) * SAMPLE_RATE_HZ)
        self._max_bytes = max_bytes
        self._promised_s: float | None = None

    def promise(self, duration_s: float | None) -> None:
        """Take the header's word for the length, before any decoding.

        Raises:
            Fault: ``media.too_long``.
        """
        self._promised_s = duration_s
        if duration_s is not None and duration_s > self._max_s * _PROMISE_TOLERANCE:
            raise self._too_long(duration_s)

    def advance(self, samples: int, encoded_bytes: int) -> None:
        """Say how far the running cut has come: ``samples`` at 16 kHz in ``encoded_bytes``.

        Raises:
            Fault: ``media.too_long``; ``media.limits`` beyond any sensible length.
        """
        if samples > self._max_samples:
            if self._max_s >= MAX_AUDIO_S:
                raise Fault("media.limits", f"more than {MAX_AUDIO_S / 3600:.0f} hours of audio")
            raise self._too_long(samples / SAMPLE_RATE_HZ)
        if encoded_bytes > self._max_bytes:
            raise Fault(
                "media.too_long",
                f"{_minutes(samples / SAMPLE_RATE_HZ)} already take more than "
                f"{self._max_bytes / 1e6:.0f} MB; that is the limit",
            )

    def _too_long(self, seen_s: float) -> Fault:
        if self._promised_s is not None and self._promised_s >= seen_s:
            length = _minutes(self._promised_s)
        else:
            length = f"more than {_minutes(self._max_s)}"
        return Fault("media.too_long", f"{length}; the limit is {_minutes(self._max_s)}")


def _minutes(seconds: float) -> str:
    minutes = seconds / 60
    return "1 minute" if minutes == 1 else f"{minutes:.1f}".removesuffix(".0") + " minutes"
