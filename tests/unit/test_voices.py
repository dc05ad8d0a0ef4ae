"""Who speaks: what letters mean, samples of voices, channels side by side."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tnfd.model import ChunkResult, Doubt, Gap, Segment, Transcript, Word
from tnfd.rules.voices import by_channel, has_speakers, named, samples_of


def answer(*rows: tuple[float, float, str | None]) -> ChunkResult:
    return ChunkResult(
        "x", tuple(Segment(start, end, f"text {n}", who) for n, (start, end, who) in enumerate(rows))
    )


def names(result: ChunkResult) -> list[str | None]:
    return [one.speaker for one in result.segments]


def test_letters_of_the_first_answer_name_everybody() -> None:
    first = named(answer((0, 3, "A"), (3, 6, "B")), set(), start_s=0, first=True)
    assert names(first) == ["Speaker A", "Speaker B"]


def test_letters_of_another_answer_mean_somebody_else() -> None:
    known = {"Speaker A", "Anna"}
    later = answer((0, 3, "Anna"), (3, 6, "Speaker A"), (6, 9, "A"), (9, 12, None))
    assert names(named(later, known, start_s=754, first=False)) == ["Anna", "Speaker A", "Speaker A", None]
    unknown = named(answer((0, 3, "C")), known, start_s=754, first=False)
    assert names(unknown) == ["Speaker C (from 12:34)"]


def test_a_sample_is_the_longest_stretch_of_one_voice_alone() -> None:
    result = answer((0, 1, "A"), (1, 6, "A"), (6, 30, "B"), (30, 31.5, "C"), (40, 44, "A"))
    found = samples_of(result, set())
    assert [(one.speaker, round(one.start_s, 1), round(one.end_s, 1)) for one in found] == [
        ("B", 6.1, 16.0),
        ("A", 1.1, 5.9),
    ]
    assert [one.speaker for one in samples_of(result, {"B"})] == ["A"]


def test_a_voice_that_others_talk_over_gives_no_sample() -> None:
    assert samples_of(answer((0, 5, "A"), (4, 9, "B")), set()) == []


def test_everybody_who_said_something_has_a_name() -> None:
    assert has_speakers(answer((0, 1, "A")).segments)
    assert has_speakers((Segment(0, 1, "  "),))
    assert not has_speakers(answer((0, 1, "A"), (1, 2, None)).segments)


def spoken(start_s: float, text: str) -> Segment:
    words = tuple(Word(start_s + n, start_s + n + 0.9, word) for n, word in enumerate(text.split()))
    return Segment(words[0].start_s, words[-1].end_s, text, None, words)


def test_channels_are_put_side_by_side() -> None:
    # 20 s of the left channel, then 20 s of the right one.
    whole = Transcript(
        "Hi Bob. How are you? Hello. Fine.",
        (spoken(1, "Hi Bob."), spoken(8, "How are you?"), spoken(25, "Hello. Fine.")),
        40.0,
        timestamps="aligned",
        gaps=(Gap(35, 40, "engine.rejected"), Gap(18, 22, "media.corrupt")),
        doubts=(Doubt("repetition", 28, 29),),
    )
    folded = by_channel(whole, 2, ("Ann",))
    assert folded.duration_s == 20.0
    assert [(one.start_s, one.speaker, one.text) for one in folded.segments] == [
        (1.0, "Ann", "Hi Bob."),
        (5.0, "Channel 2", "Hello."),
        (6.0, "Channel 2", "Fine."),
        (8.0, "Ann", "How are you?"),
    ]
    assert folded.text == "Hi Bob. Hello. Fine. How are you?"
    assert folded.gaps == (
        Gap(0, 2, "media.corrupt"),
        Gap(15, 20, "engine.rejected"),
        Gap(18, 20, "media.corrupt"),
    )
    assert folded.doubts == (Doubt("repetition", 8, 9),)


def test_a_turn_ends_where_its_speaker_pauses() -> None:
    words = (Word(1, 2, "well"), Word(4, 5, "yes"))
    folded = by_channel(Transcript("", (Segment(1, 5, "well yes", None, words),), 20.0), 2, ())
    assert [(one.start_s, one.text) for one in folded.segments] == [(1, "well"), (4, "yes")]


@given(
    st.lists(
        st.tuples(st.floats(0, 59), st.floats(0, 5), st.sampled_from(["Yes.", "No, thanks", "日本"])),
        max_size=8,
    ),
    st.integers(1, 4),
)
def test_nothing_said_is_lost(rows: list[tuple[float, float, str]], channels: int) -> None:
    segments = tuple(Segment(start, min(start + length, 60.0), text) for start, length, text in sorted(rows))
    folded = by_channel(Transcript("", segments, 60.0), channels, ())
    assert sorted(one.text for one in folded.segments) == sorted(one.text for one in segments)
    for one in folded.segments:
        assert 0 <= one.start_s <= one.end_s <= 60.0 / channels + 1e-9
