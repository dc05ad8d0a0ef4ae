"""Markdown: front matter for programs, text that stays text."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tnfd.model import EngineChoice, Gap, Segment, Transcript
from tnfd.rules.formats import RENDERERS, RenderInput
from tnfd.rules.text import clean

ENGINE = EngineChoice("openai", "openai", "gpt-transcribe")
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def render(
    transcript: Transcript,
    name: bytes = b"talk.mp3",
    engine: EngineChoice | None = ENGINE,
    recorded_at: str | None = "2026-11-23T16:02:11Z",
) -> str:
    return RENDERERS["md"](RenderInput(transcript, name, "ab" * 32, engine, recorded_at)).decode()


def front(text: str) -> dict[str, Any]:
    first, matter, _ = text.split("---\n", 2)
    assert first == ""
    fields: dict[str, Any] = yaml.safe_load(matter)
    return fields


def body(text: str) -> str:
    return text.split("---\n", 2)[2]


def said(*texts: str) -> Transcript:
    segments = tuple(Segment(10.0 * n, 10.0 * n + 10, text) for n, text in enumerate(texts))
    return Transcript(" ".join(texts), segments, 10.0 * len(texts), timestamps="engine")


def test_a_short_recording_as_a_whole() -> None:
    whole = Transcript(
        "Hello. Bye.",
        (Segment(0, 2, "Hello.", "Ann"), Segment(62, 63, "Bye.")),
        3661.26,
        languages=("en", "de"),
        timestamps="engine",
        flags=("draft",),
        gaps=(Gap(2, 61.5, "engine.rejected"),),
    )
    assert render(whole, "Grüße 1.m4a".encode()) == (
        "---\n"
        'title: "Grüße 1"\n'
        'source: "Grüße 1.m4a"\n'
        'recorded_at: "2026-11-23T16:02:11Z"\n'
        'duration: "1:01:01"\n'
        "duration_s: 3661.26\n"
        'languages: ["en", "de"]\n'
        'engine: "openai"\n'
        'model: "gpt-transcribe"\n'
        'flags: ["draft"]\n'
        "gaps: 1\n"
        "---\n"
        "\n"
        "# Grüße 1\n"
        "\n"
        "**Ann** [00:00:00] Hello.\n"
        "\n"
        "**[00:02 - 01:02: not transcribed: engine.rejected]**\n"
        "\n"
        "Bye.\n"
    )


def test_what_is_not_known_is_null() -> None:
    fields = front(render(Transcript("", (), 0.05), engine=None, recorded_at=None))
    assert [fields[key] for key in ("recorded_at", "engine", "model")] == [None] * 3
    assert (fields["languages"], fields["flags"], fields["gaps"]) == ([], [], 0)
    assert (fields["duration"], fields["duration_s"]) == ("0:00:00", 0.05)


def test_silence_is_a_heading_and_nothing_else() -> None:
    assert body(render(Transcript("", (), 3.0))) == "\n# talk\n"


# YAML 1.1 reads bare words and numbers as much else; names hold what people type.
@pytest.mark.parametrize(
    "stem",
    [
        "no", "1:30", "~", "- a", "a: b # c", '"q"', "it's", "\\x", "{x}", "2026-01-02", "---", "\u202egpj",
        "🎉 a", "a\u2028b", "\x7f", "\ufeff",
    ],
)  # fmt: skip
def test_names_come_back_from_yaml(stem: str) -> None:
    text = render(said("x"), f"{stem}.mp3".encode())
    assert front(text)["source"] == f"{stem}.mp3"
    assert all(line.isprintable() for line in text.split("---\n", 2)[1].split("\n"))


@given(st.binary(min_size=1, max_size=40).filter(lambda name: name != b"."), st.lists(st.text(), max_size=3))
def test_front_matter_is_yaml_for_any_name_and_language(name: bytes, languages: list[str]) -> None:
    fields = front(render(Transcript("", (), 1.0, languages=tuple(languages)), name))
    assert fields["source"] == name.decode("utf-8", "backslashreplace")
    assert fields["languages"] == [clean(language) for language in languages]


def test_a_name_that_yaml_could_take_for_its_end_does_not_end_it() -> None:
    text = render(said("x"), b"a\n---\nb.mp3")
    assert front(text)["source"] == "a\n---\nb.mp3"
    assert front(text)["gaps"] == 0


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("# no heading", "\\# no heading"),
        ("1. no list", "1\\. no list"),
        ("2020. A year.", "2020\\. A year."),
        ("- no list", "\\- no list"),
        ("-5 degrees", "-5 degrees"),
        ("1.5 million", "1.5 million"),
        ("> no quote", "\\> no quote"),
        ("<b>no tag</b>", "\\<b>no tag\\</b>"),
        ("a * b * c", "a \\* b \\* c"),
        ("snake_case", "snake_case"),
        ("__init__", "\\_\\_init\\_\\_"),
        ("AT&T &amp; R&D", "AT&T \\&amp; R&D"),
        ("[Music]", "\\[Music]"),
        ("$5 and $10", "$5 and $10"),
        ("---", "\\---"),
    ],
)
def test_markup_is_escaped_and_nothing_else(text: str, written: str) -> None:
    assert body(render(said(text))) == f"\n# talk\n\n{written}\n"


def shown(text: str) -> list[str]:
    """The text of each paragraph as a reader sees it; fails on anything but one heading and paragraphs."""
    tokens = MARKDOWN.parse(text)
    kinds = [token.type for token in tokens if token.type != "inline"]
    assert kinds[:2] == ["heading_open", "heading_close"]
    assert set(kinds[2:]) <= {"paragraph_open", "paragraph_close"}
    inline = [token for token in tokens if token.type == "inline"]
    for token in inline:
        assert {child.type for child in token.children or []} <= {"text"}
    return ["".join(child.content for child in token.children or []) for token in inline]


MARKS = st.text("#*_->+`[]()!<>&;:|~=\\1.)\t ax\"'$", max_size=12)


@given(st.lists(st.one_of(MARKS, st.text(max_size=12)), min_size=1, max_size=4))
@example(["    code", "~~~", "```", "a | b", "|--|--|", "===", "[x]: y", "&lt;", "![a](b)", "* * *", "a\\"])
def test_readers_see_what_was_said(texts: list[str]) -> None:
    # A pause between any two of them makes each a paragraph.
    segments = tuple(Segment(10.0 * n, 10.0 * n + 1, text) for n, text in enumerate(texts))
    lines = [" ".join(line.split()) for text in texts for line in clean(text).split("\n")]
    _, *paragraphs = shown(body(render(Transcript("", segments, 99, timestamps="engine"))))
    assert "".join(" ".join(paragraphs).split()) == "".join(" ".join(lines).split())


@pytest.mark.parametrize(
    "stem", ["# 1", "a #", "C#", "*a*", "a_b_", "[x](y)", "<!-- a", "1. x", "    x", "a ##"]
)
def test_readers_see_the_name_as_heading(stem: str) -> None:
    heading = shown(body(render(said("x"), f"{stem}.mp3".encode())))[0]
    assert heading == stem.strip()


def test_only_speakers_and_gaps_are_bold() -> None:
    whole = Transcript(
        "",
        (Segment(0, 1, "**Hi.**", "A*n_n"), Segment(1, 2, "So.", "A*n_n"), Segment(2, 3, "Yes.", "Bob")),
        9,
        timestamps="engine",
        gaps=(Gap(5, 9, "engine.too_large"),),
    )
    tokens = MARKDOWN.render(body(render(whole)))
    assert tokens == (
        "<h1>talk</h1>\n<p><strong>A*n_n</strong> [00:00:00] **Hi.** So.</p>\n"
        "<p><strong>Bob</strong> [00:00:02] Yes.</p>\n"
        "<p><strong>[00:05 - 00:09: not transcribed: engine.too_large]</strong></p>\n"
    )
