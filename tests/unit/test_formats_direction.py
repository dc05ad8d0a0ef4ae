"""Subtitles that run from right to left, and names that stay whole."""

from __future__ import annotations

import pytest

from tnfd.model import Segment, Transcript
from tnfd.rules.formats.breaks import NAME, WORD, break_cost
from tnfd.rules.formats.cues import cues
from tnfd.rules.formats.direction import RLM, directed


def test_left_to_right_is_left_alone() -> None:
    assert directed(("Hello, world!", "日本語。")) == ("Hello, world!", "日本語。")
    assert directed(("the word שלום is Hebrew",)) == ("the word שלום is Hebrew",)


def test_marks_hold_what_stands_at_the_ends_of_a_line() -> None:
    assert directed(("שלום, עולם!",)) == (f"שלום, עולם!{RLM}",)
    assert directed(("5 כלבים", "- אמר NASA")) == (f"{RLM}5 כלבים", f"{RLM}- אמר NASA{RLM}")
    assert directed(("مرحبا بالعالم",)) == ("مرحبا بالعالم",)
    assert directed(("שלום לכולם וברוכים הבאים", "NASA"))[1] == f"{RLM}NASA{RLM}"


def test_cues_of_hebrew_are_marked_and_fit() -> None:
    text = "המגדלור עומד במקום שבו הנהר פוגש את הים. אף אחד לא יודע בן כמה הוא באמת, אבל זה לא משנה לאיש!"
    found = cues(Transcript(text, (Segment(0, 12, text),), 12.0, timestamps="estimated"))
    assert len(found) > 1
    for cue in found:
        for line in cue.lines:
            assert len(line.replace(RLM, "")) <= 42
            assert line[-1].isalpha() or line.endswith(RLM)


@pytest.mark.parametrize(("left", "right"), [("New", "York"), ("Anna", "Müller"), ("Лев", "Толстой")])
def test_a_name_costs_more_to_break_than_other_words(left: str, right: str) -> None:
    assert break_cost(left, right, spaced=True) == NAME


@pytest.mark.parametrize(("left", "right"), [("Anna", "went"), ("saw", "Anna"), ("Anna,", "Bob")])
def test_what_is_no_name_breaks_as_ever(left: str, right: str) -> None:
    assert break_cost(left, right, spaced=True) <= WORD
