from __future__ import annotations

from pathlib import Path

import pytest

from tnfd.config.subtree import Subtrees
from tnfd.errors import ConfigError
from tnfd.model import EngineChoice, JobSettings

A, B = EngineChoice("a", "openai", "m"), EngineChoice("b", "openai", "n")
BASE = JobSettings(engines=(A, B), languages=("en",), after="move", formats=("txt",))
SUBTREES = Subtrees(Path("/in"), BASE)


def test_without_any_file_the_inbox_holds() -> None:
    assert SUBTREES.resolve(()) == BASE


def test_the_innermost_file_has_the_last_word() -> None:
    settings = SUBTREES.resolve(
        (
            (b"", b'language = "de"\nprompt = "names"'),
            (b"calls", b'language = ["fr", "en"]\nformats = ["srt", "txt"]\nkeywords = ["x"]'),
        )
    )
    assert settings.languages == ("fr", "en")
    assert (settings.prompt, settings.formats, settings.keywords) == ("names", ("srt", "txt"), ("x",))
    assert (settings.engines, settings.after) == (BASE.engines, "move")


def test_an_engine_of_the_inbox_may_be_chosen_and_after_turned_off() -> None:
    settings = SUBTREES.resolve(((b"x", b'engine = "b"\nafter = "keep"\nname_format = "{name}.{ext}"'),))
    assert (settings.engines, settings.after, settings.name_format) == ((B,), "keep", "{name}.{ext}")


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ('\nengine = "c"', 2, "engine", "not among the engines of this inbox (a, b)"),
        ('after = "delete"', 1, "after", 'expected "keep"'),
        ('langage = "de"', 1, "langage", "language"),
        ("settle_s = 1", 1, "settle_s", "for a whole inbox alone"),
        ("[engines.x]\ntype = 'openai'", 1, "engines", "unknown key"),
        ('formats = ["txt", "doc"]', 1, "formats", "unknown format"),
        ("prompt = 7", 1, "prompt", "text"),
        ("= nonsense", 1, "", "not valid TOML"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, line: int, key: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        SUBTREES.resolve(((b"deep", text.encode()),))
    (problem,) = raised.value.problems
    assert (problem.where, problem.line, problem.key) == ("/in/deep/.tnfd.toml", line, key)
    assert message in problem.message


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        SUBTREES.resolve(((b"", b"prompt = 1\nafter = 2"), (b"d", b'engine = "zz"')))
    assert len(raised.value.problems) == 3
