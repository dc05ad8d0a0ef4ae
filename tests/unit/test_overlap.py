"""What two pieces both say is kept once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.model import ChunkResult, Segment, Word
from tnfd.rules.overlap import common_run, without_overlap
from tnfd.rules.text import join


def plain(text: str) -> ChunkResult:
    return ChunkResult(text)


def timed(*words: tuple[float, str]) -> ChunkResult:
    said = tuple(Word(at_s, at_s + 0.4, text) for at_s, text in words)
    text = " ".join(text for _, text in words)
    return ChunkResult(
        text, (Segment(said[0].start_s, said[-1].end_s, text, None, said),), timestamps="engine"
    )


def both(left: ChunkResult, right: ChunkResult, left_s: float = 10.0) -> str:
    one, two = without_overlap(left, right, left_s=left_s, overlap_s=2.0)
    return join([one.text, two.text])


@pytest.mark.parametrize(
    ("left", "right", "run"),
    [
        ("abcd", "cdef", (2, 0, 2)),
        ("abxcd", "ycdef", (3, 1, 2)),
        ("abc", "xyz", (0, 0, 0)),
        ("aab", "ab", (1, 0, 2)),
        ("axa", "a", (2, 0, 1)),  # nearest to where they meet
        ("", "abc", (0, 0, 0)),
    ],
)
def test_longest_common_run(left: str, right: str, run: tuple[int, int, int]) -> None:
    assert common_run(left, right) == run


@pytest.mark.parametrize(
    ("left", "right", "whole"),
    [
        ("So we went to the", "to the market.", "So we went to the market."),
        ("So we went to the mar", "ent to the market.", "So we went to the market."),
        ("He said: no, never.", "No! Never. Then he left.", "He said: no, never. Then he left."),
        ("Das ist schön, nicht wahr?", "nicht wahr? Doch.", "Das ist schön, nicht wahr? Doch."),
        ("it's don't", "Don't go", "it's don't go"),
        ("今日は天気が良い", "天気が良いので散歩", "今日は天気が良いので散歩"),
        ("สวัสดีครับ", "ครับผม", "สวัสดีครับผม"),
        ("one two", "three four", "one two three four"),  # nothing in common: nothing is lost
        ("", "three four", "three four"),
        ("one two", "", "one two"),
        ("all the same", "all the same", "all the same"),
    ],
)
def test_text_without_times(left: str, right: str, whole: str) -> None:
    assert both(plain(left), plain(right)) == whole


def test_words_and_segments_go_with_the_text() -> None:
    left = timed((7.0, "we"), (8.1, "went"), (8.7, "to"), (9.6, "ma"))
    right = timed((0.0, "ent"), (0.7, "to"), (1.6, "market"), (2.2, "then"))
    one, two = without_overlap(left, right, left_s=10.0, overlap_s=2.0)
    assert (one.text, two.text) == ("we went to", "market then")
    assert [word.text for word in one.segments[0].words or ()] == ["we", "went", "to"]
    assert [word.text for word in two.segments[0].words or ()] == ["market", "then"]
    assert (one.segments[0].end_s, two.segments[0].start_s) == (9.1, 1.6)


def test_words_said_elsewhere_are_not_taken_for_the_same() -> None:
    left = timed((1.0, "yes"), (2.0, "no"), (9.2, "so"))
    right = timed((0.9, "so"), (5.0, "yes"), (6.0, "no"))
    assert both(left, right) == "yes no so yes no"


def test_times_decide_where_nothing_is_shared() -> None:
    left = timed((7.0, "we"), (8.2, "went"), (9.4, "hm"))
    right = timed((0.1, "mm"), (1.4, "home"), (3.0, "late"))
    assert both(left, right) == "we went home late"


def test_whole_segments_that_were_heard_twice_are_left_out() -> None:
    left = ChunkResult("a b. c d.", (Segment(7, 8, "a b."), Segment(8.2, 9.8, "c d.")), timestamps="engine")
    right = ChunkResult("c d. e f.", (Segment(0.2, 1.8, "c d."), Segment(2, 3, "e f.")), timestamps="engine")
    one, two = without_overlap(left, right, left_s=10.0, overlap_s=2.0)
    assert [segment.text for segment in (*one.segments, *two.segments)] == ["a b.", "c d.", "e f."]
    assert (one.text, two.text) == ("a b. c d.", "e f.")


WORDS = st.lists(st.integers(0, 10**6).map(lambda n: f"w{n}"), min_size=12, max_size=40, unique=True)


@given(WORDS, st.integers(4, 8), st.integers(1, 4), st.booleans())
def test_no_word_is_lost_or_doubled(words: list[str], at: int, shared: int, with_times: bool) -> None:
    """Words of 0.5 s; the pieces share some whole ones, and each makes nonsense of the one that is cut."""
    left, right = [*words[: at + shared], "hm"], ["mh", *words[at:]]
    if with_times:
        one = timed(*((0.5 * n, word) for n, word in enumerate(left)))
        two = timed(*((0.5 * n, word) for n, word in enumerate(right)))
        merged = both(one, two, left_s=0.5 * len(left))
    else:
        merged = both(plain(" ".join(left)), plain(" ".join(right)))
    assert merged.split() == words
