"""Sound in which every second says its own number, and an ear that understands it. Pure Python, no files.

A second is silence with half a second of five short tones in it: four hexadecimal digits and a check digit.
That survives every codec and much noise, and costs little to make and to hear.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from operator import mul

RATE = 16_000  # of what is made
HEARD_RATE = 4_000  # of what is heard
LEAD_S = 0.2  # from the start of a second to that of its word
WORD_S = 0.5
_TONE_S = 0.1
_TONES = 5
_LEVEL = 9000
_NOISE = 2000  # 10 dB below the tones
_TONE_HZ = tuple(400 + 70 * digit for digit in range(16))  # whole periods in a tone: no clicks between them
_FRAME = HEARD_RATE // 100
_BLOCK_FRAMES = 2000
_JOINED_FRAMES = 20  # a codec may swallow a whole tone; pauses between words are longer


@dataclass(frozen=True, slots=True)
class Heard:
    """One word and when it was said (seconds); "hm" where it was not understood."""

    start_s: float
    end_s: float
    word: str


def word_of(second: int) -> str:
    """What a second says: ``s00042``."""
    return f"s{second:05}"


def sound(seconds: range, *, noisy: range = range(0)) -> Iterator[bytes]:
    """Make s16 mono sound at RATE, second after second; with noise in those of ``noisy``."""
    for second in seconds:
        yield (_noisy if second in noisy else _clean)(second)


def _digits(second: int) -> tuple[int, ...]:
    digits = [second >> shift & 15 for shift in (12, 8, 4, 0)]
    return (*digits, (digits[0] + 3 * digits[1] + 5 * digits[2] + 7 * digits[3] + 9) % 16)


@cache
def _tone(digit: int) -> bytes:
    step = 2 * math.pi * _TONE_HZ[digit] / RATE
    return array("h", (round(_LEVEL * math.sin(step * n)) for n in range(round(_TONE_S * RATE)))).tobytes()


def _clean(second: int) -> bytes:
    lead = bytes(2 * round(LEAD_S * RATE))
    word = b"".join(_tone(digit) for digit in _digits(second))
    return lead + word + bytes(2 * RATE - len(lead) - len(word))


@cache
def _noise() -> array[int]:
    chance = random.Random(5)  # noqa: S311  filler
    return array("h", (round(chance.uniform(-1.7, 1.7) * _NOISE) for _ in range(4 * RATE)))


def _noisy(second: int) -> bytes:
    begin = second * 7919 % (3 * RATE)
    sound = array("h", _clean(second))
    return array("h", map(sum, zip(sound, _noise()[begin : begin + RATE], strict=True))).tobytes()


# -- hearing -------------------------------------------------------------------------------------------


def hear(samples: array[int]) -> list[Heard]:
    """Understand s16 mono sound at HEARD_RATE."""
    found: list[Heard] = []
    for begin, end in _bursts(_levels(samples)):
        start_s, length_s = begin / 100, (end - begin) / 100
        if length_s < 0.04:
            continue
        # A codec may swallow a tone's end; the check digit tells.
        word = _understood(samples, begin * _FRAME) if length_s > WORD_S - 0.15 else None
        found.append(Heard(start_s, start_s + length_s, word or "hm"))
    return found


def _levels(samples: array[int]) -> list[float]:
    """The level of each hundredth of a second."""
    return [
        sum(map(abs, samples[at : at + _FRAME])) / _FRAME
        for at in range(0, len(samples) - _FRAME + 1, _FRAME)
    ]


def _bursts(levels: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Give the first and last frames of what is louder than the pauses around it."""
    begin, last = -1, -10
    for at, level in enumerate(levels):
        if at % _BLOCK_FRAMES == 0:
            around = sorted(levels[max(0, at - 50) : at + _BLOCK_FRAMES + 50])
            quiet, loud = around[len(around) // 4], around[len(around) * 9 // 10]
            bound = max(200.0, (quiet + loud) / 2)
        if level > bound:
            if begin >= 0 and at - last > _JOINED_FRAMES:
                yield begin, last + 1
                begin = -1
            begin, last = (at if begin < 0 else begin), at
    if begin >= 0:
        yield begin, last + 1


@cache
def _waves() -> list[tuple[array[float], array[float]]]:
    count = round(0.06 * HEARD_RATE)
    steps = [2 * math.pi * hertz / HEARD_RATE for hertz in _TONE_HZ]
    return [
        (
            array("f", (math.sin(step * n) for n in range(count))),
            array("f", (math.cos(step * n) for n in range(count))),
        )
        for step in steps
    ]


def _understood(samples: array[int], begin: int) -> str | None:
    digits = []
    for number in range(_TONES):
        at = begin + round((number * _TONE_S + 0.02) * HEARD_RATE)
        part = samples[at : at + round(0.06 * HEARD_RATE)]
        powers = [
            sum(map(mul, part, sine)) ** 2 + sum(map(mul, part, cosine)) ** 2 for sine, cosine in _waves()
        ]
        digits.append(max(range(16), key=powers.__getitem__))
    second = digits[0] << 12 | digits[1] << 8 | digits[2] << 4 | digits[3]
    return word_of(second) if _digits(second) == tuple(digits) else None
