"""Languages by scripts and common words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.rules.tongue import language_of, languages_of

TEXTS = {
    "en": "And so, my fellow Americans: ask not what your country can do for you, ask what you can do.",
    "de": "Der Leuchtturm steht dort, wo der Fluss ins Meer geht, und niemand weiß, wie alt er ist.",
    "fr": "Le phare est dans la mer, et nous ne savons pas qui a fait les escaliers de pierre pour vous.",
    "es": "El faro está donde el río llega al mar, y nadie sabe por qué los vecinos no quieren más luz.",
    "it": "Il faro sta dove il fiume arriva al mare, e non è più come una volta, ma gli anni sono passati.",
    "nl": "De vuurtoren staat waar de rivier in zee komt, en niemand weet hoe oud het is, maar ik wel.",
    "pl": "Latarnia stoi tam, gdzie rzeka wpada do morza, i nikt nie wie, jak stara ona jest, ale to nic.",
    "ru": "Маяк стоит там, где река впадает в море, и никто не знает, сколько ему лет, но это не важно.",
    "uk": "Маяк стоїть там, де річка впадає в море, і ніхто не знає, скільки йому років, але це не важливо.",
    "ja": "灯台は川が海に出会う場所に立っています。毎晩、灯台守は百十二段の階段を登ります。",
    "zh": "灯塔矗立在河流入海的地方。每天晚上，守塔人都要爬上一百一十二级台阶，点亮灯火，并把天气写进书里。",
    "ko": "등대는 강이 바다와 만나는 곳에 서 있다. 매일 저녁 등대지기는 백열두 계단을 올라 등불을 켠다.",
    "he": "המגדלור עומד במקום שבו הנהר פוגש את הים, ואף אחד לא יודע בן כמה הוא באמת, אבל זה לא משנה.",
    "ar": "تقف المنارة في المكان الذي يلتقي فيه النهر مع البحر، ولا أحد يعرف كم عمرها، لكن هذا ليس مهما.",
    "el": "Ο φάρος στέκεται εκεί όπου ο ποταμός συναντά τη θάλασσα, και κανείς δεν ξέρει πόσο παλιός είναι.",
}  # fmt: skip


@pytest.mark.parametrize("code", TEXTS)
def test_a_text_shows_its_language(code: str) -> None:
    assert language_of(TEXTS[code]) == code
    assert language_of(TEXTS[code], ["en", code]) == code


def test_too_little_text_shows_nothing() -> None:
    assert language_of("Okay, bye.") is None
    assert language_of("words of 1234abcd, words of 1234abcd, words of words of words") is None


def test_only_expected_languages_are_named() -> None:
    assert language_of(TEXTS["fr"], ["en", "de"]) != "fr"
    assert language_of(TEXTS["en"], ["en-GB", "de"]) == "en-GB"
    assert languages_of(["Hm."], ["de"]) == ("de",)


def test_a_recording_has_the_languages_of_its_pieces() -> None:
    assert languages_of([TEXTS["en"], TEXTS["de"]]) == ("en", "de")
    assert languages_of([TEXTS["en"]] * 20 + [TEXTS["de"]]) == ("en",)
    assert languages_of(["Hm.", "So."]) == ()


@given(st.text(max_size=200), st.lists(st.sampled_from(["en", "de", "ja"]), unique=True))
def test_any_text_may_come(text: str, expected: list[str]) -> None:
    found = language_of(text, expected)
    assert found is None or not expected or found in expected
