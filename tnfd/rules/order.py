"""In which order files are worked on so that all of them are done soonest. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def plan_order(lengths_s: Sequence[float], slots: int) -> list[int]:
    """Return the indexes in working order, for ``slots`` files at once.

    The longest first, because what is begun last should not be what takes longest. Where the files do not
    share out evenly, some slots get one more than the others: these begin with the shortest. A long file is
    held up by at most one short one so, and the first slots are filled sooner. Equal lengths keep order.
    """
    falling = sorted(range(len(lengths_s)), key=lambda index: -lengths_s[index])
    extra = len(falling) % slots if len(falling) > slots else 0
    if not extra:
        return falling
    return [*reversed(falling[-extra:]), *falling[:-extra]]
