"""Which settings make a transcript another one."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from tnfd.model import EngineChoice, JobSettings
from tnfd.rules.profile import profile_of

ONE, TWO = EngineChoice("a", "openai", "m"), EngineChoice("b", "whisper", "small")
PLAIN = JobSettings((ONE,))

CHANGES_TEXT: dict[str, list[Any]] = {
    "engines": [(TWO,), (ONE, TWO), (TWO, ONE), (replace(ONE, model="n"),), (replace(ONE, type="x"),)],
    "languages": [("en",), ("de", "en"), ("en", "de")],
    "audio_languages": [("en",)],
    "prompt": ["names"],
    "keywords": [("a",), ("b",), ("a", "b"), ("ab",)],
    "speakers": ["engine", "channels"],
}
SAME_TEXT: dict[str, Any] = {
    "formats": ("srt", "json"),
    "speaker_names": ("Ann",),  # of nobody: speakers are off
    "speaker_samples": ("/ann.wav",),
    "name_format": "{name}.{ext}",
    "output_dir": "/out",
    "on_duplicate": "skip",
    "after": "move",
    "done_dir": "x",
    "failed_dir": "y",
    "status": "never",
}


def test_every_setting_was_thought_of() -> None:
    assert {field.name for field in fields(JobSettings)} == set(CHANGES_TEXT) | set(SAME_TEXT)


@pytest.mark.parametrize("name", SAME_TEXT)
def test_what_leaves_the_text_alone_is_not_paid_for_again(name: str) -> None:
    changes: dict[str, Any] = {name: SAME_TEXT[name]}
    assert profile_of(replace(PLAIN, **changes)) == profile_of(PLAIN)


def test_what_changes_the_text_is_another_profile_each() -> None:
    profiles = [profile_of(PLAIN)]
    for name, values in CHANGES_TEXT.items():
        for value in values:
            changes: dict[str, Any] = {name: value}
            profiles.append(profile_of(replace(PLAIN, **changes)))
    assert len(set(profiles)) == len(profiles)


def test_names_of_speakers_are_text_once_they_are_asked_for() -> None:
    named = replace(PLAIN, speakers="channels", speaker_names=("Ann",))
    known = replace(named, speakers="engine", speaker_samples=("/ann.wav",))
    others = [replace(named, speaker_names=("Bob",)), replace(named, speakers="engine")]
    assert len({profile_of(one) for one in (PLAIN, named, known, *others)}) == 5


def test_one_field_s_value_is_never_taken_for_another_s() -> None:
    assert profile_of(replace(PLAIN, languages=("en",))) != profile_of(replace(PLAIN, keywords=("en",)))


def test_profile_is_the_same_tomorrow() -> None:
    # Stored in databases and status files: another value would have every recording paid for again.
    settings = replace(PLAIN, languages=("en", "de"), prompt="Jürgen \ud83d", keywords=("tnfd",))
    assert profile_of(settings) == "63b88990ca54e4ac"
    assert (
        profile_of(JobSettings((EngineChoice("openai", "openai", "gpt-transcribe"),))) == "70ba4dee5246b104"
    )
