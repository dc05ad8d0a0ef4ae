"""What a recording may claim and take: bounds on rates, channels, length, time. Pure; both sides read it."""

from __future__ import annotations

MIN_RATE_HZ = 4_000
MAX_RATE_HZ = 768_000
MAX_CHANNELS = 64
MAX_AUDIO_S = 48 * 3600.0
MAX_STREAMS = 1_000
MAX_MEMORY_BYTES = 600 * 1024 * 1024  # address space of a child, beyond what it was forked with

# The thinnest speech worth the name (AMR-NB, Opus and Speex at 6 kbit/s): bounds the length of a file whose
# header says nothing.
_THINNEST_BYTES_PER_S = 750
# Measured 2026-11: decoding and encoding an hour takes about 30 s of one core, 1/120 of real time.
_SLOWEST_SPEED = 4.0
_SLOWEST_READ_BYTES_PER_S = 1_000_000
_GRACE_S = 60.0


def time_limit_s(size_bytes: int, duration_s: float | None) -> float:
    """Seconds (wall or processor) after which a child is taken to be stuck; thirty times what is normal."""
    longest_s = size_bytes / _THINNEST_BYTES_PER_S if duration_s is None else duration_s
    return _GRACE_S + min(longest_s, MAX_AUDIO_S) / _SLOWEST_SPEED + size_bytes / _SLOWEST_READ_BYTES_PER_S
