"""Job ids: ULIDs (48 bits of milliseconds, 80 random bits, Crockford's base 32), so that they sort by age."""

from __future__ import annotations

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_ulid(now_s: float, randomness: bytes) -> str:
    """Build the 26 characters from a moment (seconds since 1970) and 10 random bytes."""
    number = (int(now_s * 1000) & (1 << 48) - 1) << 80 | int.from_bytes(randomness[:10], "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))
