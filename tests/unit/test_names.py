"""Names: the order of the contract, cutting, comparing, showing."""

from __future__ import annotations

import base64
import itertools

import pytest

from tnfd.rules.names import (
    candidate_names,
    choose_name,
    edited_names,
    fold,
    for_terminal,
    name_base64,
    printable,
    problem_of,
    status_name,
    status_names,
    stem,
)

SHA = "0123456789abcdef" * 4
PLAIN = "{stem}.{ext}"


def first(
    name: bytes, n: int = 1, *, ext: str = "txt", form: str = PLAIN, lang: str | None = None
) -> list[bytes]:
    return list(itertools.islice(candidate_names(name, ext, form, lang, SHA), n))


def test_candidates_come_in_the_order_of_the_contract() -> None:
    assert first(b"talk.m4a", 4) == [b"talk.txt", b"talk.m4a.txt", b"talk.m4a (2).txt", b"talk.m4a (3).txt"]


@pytest.mark.parametrize(
    ("name", "form", "lang", "expected"),
    [
        (b"movie.mkv", "{stem}.{lang}.{ext}", "en", b"movie.en.srt"),
        (b"movie.mkv", "{stem}.{lang}.{ext}", None, b"movie.srt"),
        (b"movie.mkv", "{lang}.{stem}.{ext}", None, b"movie.srt"),
        (b"movie.mkv", "{stem}-{lang}.{ext}", None, b"movie.srt"),
        (b"movie-.mkv", "{stem}{lang}.{ext}", None, b"movie-.srt"),
        (b"movie.mkv", "{{lang}}{stem}.{ext}", None, b"{lang}movie.srt"),
        (b"movie.mkv", "{stem}.{lang}.{ext}", "pt-BR", b"movie.pt-BR.srt"),
        (b"movie.mkv", "{name}.{ext}", None, b"movie.mkv.srt"),
        (b"a.b.c.mp3", PLAIN, None, b"a.b.c.srt"),
        (b"voice", PLAIN, None, b"voice.srt"),
        (b"{stem}.mp3", PLAIN, None, b"{stem}.srt"),
        (b"100% {x}.mp3", "{{{stem}}}.{ext}", None, b"{100% {x}}.srt"),
    ],
)
def test_first_name_when_the_format_says_so(
    name: bytes, form: str, lang: str | None, expected: bytes
) -> None:
    assert first(name, ext="srt", form=form, lang=lang) == [expected]


@pytest.mark.parametrize("lang", ["../../etc/x", "a/b", "", "en\n", "x" * 40, "\ud800", "."])
def test_language_from_a_server_never_leads_out_of_the_folder(lang: str) -> None:
    assert first(b"movie.mkv", form="{stem}.{lang}.{ext}", lang=lang) == [b"movie.txt"]


def test_result_is_hidden_only_if_the_input_is() -> None:
    assert first(b"talk.mp3", form=".{stem}.{ext}") == [b"talk.txt"]
    assert first(b".talk.mp3") == [b".talk.txt"]


def test_own_names_of_the_job_are_never_candidates() -> None:
    assert first(b"talk.txt") == [b"talk.txt.txt"]
    assert first(b"Talk.MP3", form="{stem}.mp3") == [b"Talk.MP3.txt"]
    assert first(b"talk.mp3", ext="json", form="{name}.status.{ext}") == [b"talk.mp3.json"]


def test_bytes_that_are_not_utf8_are_kept() -> None:
    assert first(b"caf\xe9.mp3", 2) == [b"caf\xe9.txt", b"caf\xe9.mp3.txt"]


def test_format_that_comes_out_empty_is_passed_over() -> None:
    assert first(b"talk.mp3", form=".{lang}") == [b"talk.mp3.txt"]


def test_long_name_without_any_characters_is_cut_all_the_same() -> None:
    assert first(b"\x80" * 255) == [b"\x80" * 242 + b"~01234567.txt"]


def test_long_name_is_cut_on_a_character_boundary_and_marked() -> None:
    [name] = first("ü".encode() * 125 + b".mp3")  # 250 bytes and the suffix fit
    assert name == "ü".encode() * 125 + b".txt"
    [name] = first("ü".encode() * 126 + b".mp3")
    # 255 - 4 (.txt) - 9 (mark) = 242 bytes are left: 121 whole characters
    assert name == "ü".encode() * 121 + b"~01234567.txt"


def test_long_name_keeps_count_and_extension() -> None:
    names = first(b"x" * 251 + b".mp3", 4)
    assert [len(name) for name in names] == [255, 255, 255, 255]
    assert [name[-18:] for name in names[1:]] == [
        b"xxxxx~01234567.txt",
        b"x~01234567 (2).txt",
        b"x~01234567 (3).txt",
    ]


def test_shorter_limit_of_a_file_system_holds() -> None:
    assert (
        max(map(len, itertools.islice(candidate_names(b"y" * 150, "txt", PLAIN, None, SHA, limit=143), 12)))
        == 143
    )
    assert len(status_name(b"y" * 143, limit=143)) == 143


def test_status_name_keeps_the_whole_input_name() -> None:
    assert status_name(b"talk.mp3") == b"talk.mp3.status.json"
    assert list(itertools.islice(status_names(b"talk.mp3"), 3))[1:] == [
        b"talk.mp3 (2).status.json",
        b"talk.mp3 (3).status.json",
    ]


def test_status_names_of_two_long_inputs_differ() -> None:
    one, two = (status_name(b"z" * 250 + end) for end in (b".mp3", b".m4a"))
    assert one != two
    assert len(one) == len(two) == 255


def test_choose_name_takes_the_first_that_is_free_in_any_case_and_form() -> None:
    taken = {fold(b"TALK.TXT"), fold(b"Talk.m4a.txt")}
    assert (
        choose_name(candidate_names(b"talk.m4a", "txt", PLAIN, None, SHA), taken.__contains__)
        == b"talk.m4a (2).txt"
    )


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Ärger.txt".encode(), "ärger.TXT".encode()),
        (b"caf\xc3\xa9.txt", b"cafe\xcc\x81.txt"),
        (b"STRASSE", "straße".encode()),
        ("ΣΊΣΥΦΟΣ".encode(), "σίσυφος".encode()),
    ],
)
def test_fold_is_equal_where_some_file_system_sees_one_name(one: bytes, two: bytes) -> None:
    assert fold(one) == fold(two)


def test_fold_keeps_undecodable_names_apart() -> None:
    assert len({fold(b"a\xe9"), fold(b"a\xe8"), fold(b"a"), fold("aé".encode())}) == 4


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        (b"talk.txt", b"talk.mp3", [b"talk (2).txt", b"talk (3).txt"]),
        (b"talk (2).txt", b"talk.mp3", [b"talk (3).txt", b"talk (4).txt"]),
        (b"talk.m4a (2).txt", b"talk.m4a", [b"talk.m4a (3).txt"]),
        # The count is the input's own here.
        (b"talk (2).txt", b"talk (2).mp3", [b"talk (2) (2).txt"]),
        (b"notes", b"talk.mp3", [b"notes (2)"]),
    ],
)
def test_edited_output_gets_the_next_number(name: bytes, source: bytes, expected: list[bytes]) -> None:
    names = [
        one for one in itertools.islice(edited_names(name, source, SHA), len(expected) + 1) if one != name
    ]
    assert names[: len(expected)] == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [(b"a.mp3", b"a"), (b"a", b"a"), (b".a.mp3", b".a"), (b".mp3", b".mp3"), (b"..x", b"..x"), (b"a.", b"a")],
)
def test_stem_drops_one_extension(name: bytes, expected: bytes) -> None:
    assert stem(name) == expected


def test_printable_shows_bytes_and_keeps_utf8() -> None:
    assert printable(b"caf\xe9 \xc3\xa9\n.mp3") == "caf\\xe9 é\n.mp3"
    assert for_terminal(b"caf\xe9 \x1b[31m\n.mp3") == "caf\\xe9 \\x1b[31m\\n.mp3"
    assert name_base64("é.mp3".encode()) is None
    assert name_base64(b"\xe9.mp3") == base64.b64encode(b"\xe9.mp3").decode()


@pytest.mark.parametrize("good", [PLAIN, "{name}.{ext}", "{stem}.{lang}.{ext}", "[{stem}] Abschrift.{ext}"])
def test_format_without_problem(good: str) -> None:
    assert problem_of(good) is None


@pytest.mark.parametrize(
    "bad",
    ["", "{stem}", "{ext}", "{title}.{ext}", "a/{stem}.{ext}", "{stem!r}.{ext}", "{stem:>9}.{ext}",
     "{stem.{ext}", "{}.{ext}", "{stem}\n.{ext}", ".{stem}.{ext}", "{stem}{0}.{ext}", "..\\{stem}.{ext}"],
)  # fmt: skip
def test_format_with_a_problem_says_which(bad: str) -> None:
    assert problem_of(bad)
