"""What servers answer: the good, the odd and the absurd."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.engines.answers import Answer, NotUnderstood, number, read_answer, read_error, tidy
from tnfd.engines.languages import code_of


def read(data: object, duration_s: float = 10.0) -> Answer:
    return read_answer(json.dumps(data).encode(), content_type="application/json", duration_s=duration_s)


def test_plain_json() -> None:
    assert read({"text": " Hello there. "}) == Answer("Hello there.")


def test_whisper_verbose_json() -> None:
    answer = read(
        {
            "task": "transcribe",
            "language": "english",
            "duration": 4.0,
            "text": "Hello there. Good bye.",
            "segments": [
                {"id": 0, "start": 0.0, "end": 2.0, "text": " Hello there."},
                {"id": 1, "start": 2.5, "end": 4.0, "text": " Good bye."},
            ],
            "words": [
                {"word": "Hello", "start": 0.1, "end": 0.5},
                {"word": "there", "start": 0.6, "end": 1.9},
                {"word": "Good", "start": 2.6, "end": 3.0},
                {"word": "bye", "start": 3.1, "end": 3.9},
            ],
            "usage": {"type": "duration", "seconds": 4},
        }
    )
    assert answer.languages == ("en",)
    assert answer.audio_s == 4.0
    assert [(seg.start_s, seg.end_s, seg.text) for seg in answer.segments] == [
        (0.0, 2.0, "Hello there."),
        (2.5, 4.0, "Good bye."),
    ]
    assert [[word.text for word in seg.words or ()] for seg in answer.segments] == [
        ["Hello", "there"],
        ["Good", "bye"],
    ]


def test_words_keyed_text_and_nested_in_segments() -> None:
    # LocalAI keys words "text"; whisper.cpp and faster-whisper nest them.
    words = [{"text": "one", "start": "0.5", "end": "1.0"}, {"text": "two", "start": "1.0", "end": "1.5"}]
    answer = read(
        {"text": "one two", "segments": [{"start": "0", "end": "2", "text": "one two", "words": words}]}
    )
    (segment,) = answer.segments
    assert [(word.start_s, word.text) for word in segment.words or ()] == [(0.5, "one"), (1.0, "two")]


def test_words_without_segments_make_one() -> None:
    words = [{"word": "one", "start": 0.5, "end": 1.0}, {"word": "two", "start": 1.0, "end": 1.5}]
    (segment,) = read({"text": "one two", "words": words}).segments
    assert (segment.start_s, segment.end_s, segment.text) == (0.5, 1.5, "one two")


@pytest.mark.parametrize("language", [None, "", "auto", "../../etc", "Klingonese", 7, ["en"], "en\n"])
def test_languages_that_are_none(language: object) -> None:
    expected = ("en",) if language == "en\n" else ()
    assert read({"text": "x", "language": language}).languages == expected


def test_mistral_shape() -> None:
    body: dict[str, object] = {
        "text": "Bonjour.",
        "language": None,
        "segments": [],
        "usage": {"prompt_audio_seconds": 3},
    }
    assert read(body) == Answer("Bonjour.")


def test_token_usage_names_no_seconds() -> None:
    assert read({"text": "x", "usage": {"type": "tokens", "total_tokens": 10}}).audio_s is None


@pytest.mark.parametrize("seconds", ["4.5", 4.5])
def test_usage_seconds_as_string(seconds: object) -> None:
    assert read({"text": "x", "usage": {"type": "duration", "seconds": seconds}}).audio_s == 4.5


@pytest.mark.parametrize("seconds", [-1, 1e12, "nan", True, None, [1]])
def test_absurd_usage_is_dropped(seconds: object) -> None:
    assert read({"text": "x", "usage": {"type": "duration", "seconds": seconds}}).audio_s is None


# -- times ----------------------------------------------------------------------------------------------


def segments(*spans: tuple[object, object]) -> list[tuple[float, float]]:
    rows = [{"start": start, "end": end, "text": f"part {index}"} for index, (start, end) in enumerate(spans)]
    text = " ".join(row["text"] for row in rows)  # type: ignore[misc]
    return [(seg.start_s, seg.end_s) for seg in read({"text": text, "segments": rows}).segments]


def test_times_are_clamped_to_the_audio() -> None:
    assert segments((-0.5, 4.0), (4.0, 10.9)) == [(0.0, 4.0), (4.0, 10.0)]


def test_a_missing_time_is_mended_from_its_neighbours() -> None:
    assert segments((0, 2), (None, 4), (4, None), (6, 8)) == [(0, 2), (2, 4), (4, 6), (6, 8)]


def test_times_never_run_backwards() -> None:
    assert segments((0, 2), (5, 3), (4, 8)) == [(0, 2), (5, 5), (5, 8)]


@pytest.mark.parametrize("bad", [1e30, float("inf"), float("nan"), -5e5, "soon", None, [], {}])
def test_absurd_times_leave_the_text_without_times(bad: object) -> None:
    assert segments((bad, bad), (bad, bad), (0, 1)) == []


def test_segments_that_lack_text_do_not_stand_for_it() -> None:
    body = {"text": "one two three four five", "segments": [{"start": 0, "end": 1, "text": "one"}]}
    assert read(body) == Answer("one two three four five")


def test_segments_alone_make_the_text() -> None:
    body = {"segments": [{"start": 0, "end": 1, "text": "one"}, {"start": 1, "end": 2, "text": "two"}]}
    assert read(body).text == "one two"


# -- no transcript --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"  \n", "text/plain"),
        (b'{"text": "half', "application/json"),
        (b'{"text": "half', "text/plain"),
        (b"<!doctype html><p>hello", "text/html"),
        (b"<html>", "text/plain"),
        (b"Welcome", "text/html"),
        (b"plain words", "application/json"),
        (b"\xff\xfe\x00", "application/octet-stream"),
        (b"[]", "application/json"),
        (b"17", "application/json"),
        (b"null", "application/json"),
        (b"{}", "application/json"),
        (b'{"text": null}', "application/json"),
        (b'{"text": 5}', "application/json"),
        (b'{"text": null, "segments": []}', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"1" * 10_000, "application/json"),
    ],
)
def test_not_understood(body: bytes, content_type: str) -> None:
    with pytest.raises(NotUnderstood) as caught:
        read_answer(body, content_type=content_type, duration_s=10)
    assert "half" not in str(caught.value)  # never quotes what may be a transcript


def test_error_with_a_good_status() -> None:
    with pytest.raises(NotUnderstood) as caught:
        read({"error": {"message": "quota", "code": "insufficient_quota"}})
    assert caught.value.error.code == "insufficient_quota"


def test_text_format_bodies() -> None:
    assert (
        read_answer(b"plain words\n", content_type="text/plain; charset=utf-8", duration_s=1).text
        == "plain words"
    )
    assert read_answer(b'"quoted"', content_type="application/json", duration_s=1).text == "quoted"


def test_byte_order_mark_is_no_text() -> None:
    assert read_answer(b'\xef\xbb\xbf{"text": "x"}', duration_s=1).text == "x"


# -- text -----------------------------------------------------------------------------------------------


def test_control_characters_are_stripped() -> None:
    assert tidy("a\x00b\x1b[0mc\td\r\ne\x9ff") == "ab[0mc\td\nef"


def test_lone_surrogates_can_be_written_to_a_file() -> None:
    answer = read_answer(b'{"text": "a\\ud800b \\ud83d\\ude00"}', duration_s=1)
    assert answer.text == "a\ufffdb \U0001f600"
    answer.text.encode()


# -- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "message", "param"),
    [
        ({"error": {"message": "m", "code": "c", "type": "t", "param": "p"}}, "c", "m", "p"),
        ({"error": {"message": "m", "code": 404}}, "404", "m", ""),
        ({"error": "m"}, "", "m", ""),
        ({"error": "m", "code": "c", "param": "p"}, "c", "m", "p"),
        ({"detail": "m"}, "", "m", ""),
        (
            {"detail": [{"loc": ["body", "response_format"], "msg": "m", "type": "t"}]},
            "",
            "m",
            "response_format",
        ),
        ({"object": "error", "message": "m", "code": 400, "param": None}, "400", "m", ""),
        ({"errors": [{"message": "m"}, {"message": "n"}]}, "", "m", ""),
        (["m"], "", "m", ""),
        ("m", "", "m", ""),
        ({"error": []}, "", "", ""),
        ({"error": {"message": {"nested": 1}, "code": None}}, "", "", ""),
        (None, "", "", ""),
    ],
)
def test_error_bodies(body: object, code: str, message: str, param: str) -> None:
    error = read_error(json.dumps(body).encode())
    assert (error.code, error.message, error.param) == (code, message, param)


@pytest.mark.parametrize("body", [b"<html>nginx</html>", b"", b"just words", b"\xff", b"[" * 100_000])
def test_error_bodies_that_are_no_json(body: bytes) -> None:
    assert "<" not in read_error(body).message


# -- anything -------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
times = st.none() | st.floats() | st.integers(-5, 60) | st.text(max_size=4)
rows = st.fixed_dictionaries(
    {}, optional={"start": times, "end": times, "text": values, "word": values, "speaker": values}
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "text": values,
        "language": values,
        "segments": st.lists(rows, max_size=6) | values,
        "words": st.lists(rows, max_size=8) | values,
        "usage": values,
        "error": values,
    },
)


@given(bodies | values)
def test_whatever_comes_is_understood_or_refused(body: Any) -> None:
    try:
        answer = read(body, 30.0)
    except NotUnderstood:
        return
    answer.text.encode()
    last = 0.0
    for segment in answer.segments:
        assert last <= segment.start_s <= segment.end_s <= 30.0
        assert segment.text
        last = segment.start_s
        for word in segment.words or ():
            assert 0 <= word.start_s <= word.end_s <= 30.0


@given(st.binary(max_size=60))
def test_errors_are_read_from_any_bytes(body: bytes) -> None:
    read_error(body)


@pytest.mark.parametrize("value", ["1" * 400, 10**400, "1e999", "", " ", "0x10", True, None])
def test_numbers_that_are_none(value: object) -> None:
    assert number(value) is None


@pytest.mark.parametrize(
    ("name", "code"),
    [("English", "en"), ("de", "de"), ("zh-Hans", "zh-hans"), ("pt_BR", "pt-br"), ("haitian creole", "ht")],
)
def test_language_names(name: str, code: str) -> None:
    assert code_of(name) == code
