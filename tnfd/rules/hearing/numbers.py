"""How English says what is written in digits: counts, years, prices, times of day, ordinals. Pure.

Only for aligning: of several ways to say a number one is taken, and a wrong one costs its own place alone.
"""

from __future__ import annotations

import re

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_GREAT = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
_MONEY = {"$": "dollars", "€": "euros", "£": "pounds", "¥": "yen"}
_LONGEST = 10  # digits; more are read one by one

_NUMBER = re.compile(
    r"(?P<money>[$€£¥])?(?P<whole>\d{1,3}(?:,\d{3})+|\d+)"
    r"(?:(?P<mark>[.:])(?P<part>\d+))?(?P<tail>st|nd|rd|th|s|%)?",
    re.IGNORECASE,
)


def spoken_number(written: str) -> list[str]:
    """Return the words for what begins with digits or a currency; empty where it is no number."""
    found = _NUMBER.fullmatch(written)
    if found is None:
        return []
    whole, part, tail = found["whole"].replace(",", ""), found["part"], (found["tail"] or "").lower()
    if found["mark"] == ":":
        return _clock(int(whole), part) if len(whole) <= 2 else _digits(whole + part)
    words = _whole(whole, year="," not in found["whole"] and not found["money"])
    if part and found["money"]:
        words += [_MONEY[found["money"]], *(_count(int(part)) if len(part) <= 2 else _digits(part))]
    elif part:
        words += ["point", *_digits(part)]
    elif found["money"]:
        words.append(_MONEY[found["money"]])
    if tail == "%":
        words.append("percent")
    elif tail == "s":
        words[-1] = words[-1][:-1] + "ies" if words[-1].endswith("y") else words[-1] + "s"
    elif tail:
        words[-1] = _ordinal(words[-1])
    return words


def _whole(digits: str, *, year: bool) -> list[str]:
    number = int(digits[: _LONGEST + 1])
    if len(digits) > _LONGEST or (digits[0] == "0" and len(digits) > 1):
        return _digits(digits)
    if year and len(digits) == 4 and 1100 <= number <= 2099 and not 2000 <= number <= 2009:
        high, low = divmod(number, 100)
        tail = ["hundred"] if low == 0 else (["oh"] if low < 10 else []) + _count(low)
        return [*_count(high), *tail]
    return _count(number)


def _clock(hour: int, part: str) -> list[str]:
    minutes = int(part[:2])
    low = ["oh"] if 0 < minutes < 10 else []
    return [*_count(hour), *low, *(_count(minutes) if minutes else [])]


def _digits(digits: str) -> list[str]:
    return [_ONES[int(digit)] for digit in digits]


def _count(number: int) -> list[str]:
    for size, name in _GREAT:
        if number >= size:
            rest = number % size
            return [*_count(number // size), name, *(_count(rest) if rest else [])]
    if number < 20:
        return [_ONES[number]]
    tens, ones = divmod(number, 10)
    return [_TENS[tens], *([_ONES[ones]] if ones else [])]


def _ordinal(word: str) -> str:
    if word in _ORDINALS:
        return _ORDINALS[word]
    return word[:-1] + "ieth" if word.endswith("y") else word + "th"
