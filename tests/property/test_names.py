"""Names: what holds for every input name."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tnfd.rules.names import (
    candidate_names,
    choose_name,
    edited_names,
    fold,
    printable,
    problem_of,
    status_names,
)

SHA = "fedcba9876543210" * 4

_bytes_name = st.binary(min_size=1, max_size=255).map(
    lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")
)
_text_name = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).map(
    str.encode
)
_long_name = st.tuples(_text_name, st.integers(1, 255)).map(lambda pair: (pair[0] * pair[1])[:255])
input_names = st.one_of(_bytes_name, _text_name, _long_name).filter(lambda name: name not in (b".", b".."))
formats = st.sampled_from(
    [
        "{stem}.{ext}",
        "{name}.{ext}",
        "{stem}.{lang}.{ext}",
        "{lang}.{stem}.{ext}",
        "{name} (2).{ext}",
        "{ext}-{stem}",
    ]
)
langs = st.one_of(st.none(), st.sampled_from(["en", "pt-BR"]), st.text())
exts = st.sampled_from(["txt", "json", "srt"])
limits = st.sampled_from([143, 255])


def _sound(name: bytes, source: bytes, limit: int) -> bool:
    return (
        0 < len(name) <= limit
        and b"/" not in name
        and b"\0" not in name
        and name not in (b".", b"..")
        and (source.startswith(b".") or not name.startswith(b"."))
    )


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(input_names, exts, formats, langs, limits)
def test_every_candidate_is_a_sound_name(
    name: bytes, ext: str, form: str, lang: str | None, limit: int
) -> None:
    assert problem_of(form) is None
    found = list(itertools.islice(candidate_names(name, ext, form, lang, SHA, limit=limit), 12))
    assert all(_sound(one, name, limit) for one in found)
    assert len({fold(one) for one in found}) == len(found)
    assert fold(name) not in {fold(one) for one in found}
    if _is_utf8(name):
        assert all(_is_utf8(one) for one in found), "cut inside of a character"


@given(input_names, exts, formats, st.integers(0, 12))
def test_choice_is_free_and_what_was_taken_before_it_was_better(
    name: bytes, ext: str, form: str, n: int
) -> None:
    better = [fold(one) for one in itertools.islice(candidate_names(name, ext, form, "en", SHA), n)]
    chosen = choose_name(candidate_names(name, ext, form, "en", SHA), set(better).__contains__)
    assert fold(chosen) not in better


@given(input_names, limits)
def test_status_names_are_sound_and_differ(name: bytes, limit: int) -> None:
    found = list(itertools.islice(status_names(name, limit=limit), 12))
    assert all(_sound(one, name, limit) for one in found)
    assert all(one.endswith(b".status.json") for one in found)
    assert len({fold(one) for one in found}) == 12


@given(input_names, exts)
def test_edited_names_are_sound_and_never_the_edited_one(source: bytes, ext: str) -> None:
    for name in itertools.islice(candidate_names(source, ext, "{stem}.{ext}", None, SHA), 3):
        found = list(itertools.islice(edited_names(name, source, SHA), 12))
        assert all(_sound(one, source, 255) and one.endswith(b"." + ext.encode()) for one in found)
        assert len({fold(one) for one in [name, *found]}) == 13


@given(st.binary())
def test_fold_is_stable_and_printable_is_encodable(name: bytes) -> None:
    assert fold(name) == fold(fold(name).encode("utf-8", "surrogateescape"))
    printable(name).encode()
