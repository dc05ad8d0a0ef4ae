"""What is said for what is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.rules.hearing.letters import phones_of
from tnfd.rules.hearing.numbers import spoken_number
from tnfd.rules.hearing.tokens import written

_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"
PHONES = frozenset(f"{_VOWELS} {_CONSONANTS}".split())


def said(text: str) -> str:
    return " ".join(word for piece in written(text, english=True) for word, _ in piece.said)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", "hello world"),
        ("It’s Bob’s café — really?", "it's bob's cafe really"),
        ("Mr. Smith & Dr. No", "mister smith and doctor no"),
        ("In 1984, 42 people", "in nineteen eighty four forty two people"),
        ("2,500 km at 9:05", "two thousand five hundred km at nine oh five"),
        ("$42.50 or 3.5%", "forty two dollars fifty or three point five percent"),
        ("the 1st, 22nd and 30th", "the first twenty second and thirtieth"),
        ("the 1990s", "the nineteen nineties"),
        ("well-known state-of-the-art", "well known state of the art"),
        ("the U.S. and the FBI", "the us and the fbi"),
        ("... — …", ""),
        ("日本語 text", "text"),
    ],
)
def test_words_are_what_people_say(text: str, words: str) -> None:
    assert said(text) == words


@pytest.mark.parametrize(
    ("written_", "words"),
    [
        ("0", "zero"),
        ("007", "zero zero seven"),
        ("1905", "nineteen oh five"),
        ("1900", "nineteen hundred"),
        ("2005", "two thousand five"),
        ("2026", "twenty twenty six"),
        ("1,000,000", "one million"),
        ("12345678901", "one two three four five six seven eight nine zero one"),
        ("£5", "five pounds"),
        ("abc", ""),
    ],
)
def test_numbers(written_: str, words: str) -> None:
    assert " ".join(spoken_number(written_)) == words


def test_another_language_has_no_spoken_forms() -> None:
    assert all(not piece.said for piece in written("the quick fox", english=False))


@given(st.text(max_size=60))
def test_every_word_can_be_looked_up_and_said(text: str) -> None:
    for piece in written(text, english=True):
        for word, phones in piece.said:
            assert word == word.lower()
            assert word.isascii()
            assert not set(word) - set("abcdefghijklmnopqrstuvwxyz'")
            assert PHONES.issuperset(phones.split())
            assert phones


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz'", max_size=20))
def test_letters_make_phones_that_the_model_knows(word: str) -> None:
    assert PHONES.issuperset(phones_of(word).split())


@given(st.from_regex(r"[$€£]?\d{1,14}([.:]\d{1,4})?(st|nd|rd|th|s|%)?", fullmatch=True))
def test_any_number_is_words(number: str) -> None:
    words = spoken_number(number)
    assert words
    assert all(word.isalpha() for word in words)


def test_the_text_is_kept_piece_by_piece() -> None:
    pieces = written("Ein  Satz, 日本語です。", english=False)
    assert "".join(piece.text for piece in pieces) == "EinSatz,日本語です。"
