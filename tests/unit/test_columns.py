"""Text in columns: widths, shortening, wrapping, sharing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.rules.columns import clip, pad, share, shorten, width, wrap

TEXTS = st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=60)


@pytest.mark.parametrize(
    ("text", "columns"), [("talk.mp3", 8), ("", 0), ("会議", 4), ("e\u0301", 1), ("ﾊﾝｶｸ", 4), ("é", 1)]
)
def test_width_counts_columns_and_not_characters(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("talk.mp3", 8, "talk.mp3"),
        ("a-very-long-name.mp3", 13, "a-very…me.mp3"),
        ("a-very-long-name.mp3", 4, "a-v…"),
        ("a-very-long-name.mp3", 1, "…"),
        ("会議の録音データ.mp3", 12, "会議の….mp3"),
        ("xxxxxxxxxe\u0301.mp3", 9, "xxxx….mp3"),
    ],
)
def test_shorten_keeps_both_ends(text: str, columns: int, shown: str) -> None:
    assert shorten(text, columns) == shown


@given(TEXTS, st.integers(0, 80))
def test_nothing_is_wider_than_asked(text: str, columns: int) -> None:
    assert width(shorten(text, columns)) <= columns
    assert width(clip(text, columns)) <= columns
    assert width(pad(clip(text, columns), columns)) == columns


@given(TEXTS, st.integers(8, 80))
def test_wrapped_lines_fit_and_lose_no_word_that_fits(text: str, columns: int) -> None:
    lines = wrap(text, columns)
    assert all(width(line) <= columns for line in lines)
    if all(width(word) <= columns for word in text.split()):
        assert " ".join(lines).split() == text.split()


@given(st.lists(st.integers(0, 200), min_size=1, max_size=5), st.integers(50, 200))
def test_shares_fit_and_take_from_the_widest(wants: list[int], columns: int) -> None:
    given_ = share(wants, columns)
    assert sum(given_) <= columns or max(given_) <= 8
    assert all(got <= wanted for got, wanted in zip(given_, wants, strict=True))
    if sum(wants) <= columns:
        assert given_ == wants
