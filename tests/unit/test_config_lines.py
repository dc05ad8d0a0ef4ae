"""Line numbers of TOML keys."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from tnfd.config.lines import KeyPath, lines_of

TEXT = '''\
# a comment with [brackets] and key = "value"
top = 1
[daemon]  # another = 1
workers = 5
"quoted key" . 'and #literal' = 2
a.b.c = "x # no comment = 3"
many = """
[not.a.table]
fake = 1
escaped \\""" fake = 2
four quotes""""
raw = \'\'\'
fake = 3
\'\'\'
list = [
  1, # [2, 3
  "]",
  [4,
   5],
]
when = 1979-05-27 07:32:00
inline = { x = 1, y = { z = [ "}" ] } }
after = true

[[inbox]]
path = "/a"

[[inbox]]
path = "/b"
[inbox.sub]
key = 1
[[inbox.deep]]
one = 1
[[inbox.deep]]
two = 2

[ engines . "my.own" ]
type = "openai"
quotes = ["""a""""", \'\'\'b\'\'\'\', 1]
'''

EXPECTED: dict[KeyPath, int] = {
    ("top",): 2,
    ("daemon",): 3,
    ("daemon", "workers"): 4,
    ("daemon", "quoted key", "and #literal"): 5,
    ("daemon", "a", "b", "c"): 6,
    ("daemon", "many"): 7,
    ("daemon", "raw"): 12,
    ("daemon", "list"): 15,
    ("daemon", "list", 0): 16,
    ("daemon", "list", 1): 17,
    ("daemon", "list", 2, 0): 18,
    ("daemon", "list", 2, 1): 19,
    ("daemon", "when"): 21,
    ("daemon", "inline", "y", "z"): 22,
    ("daemon", "after"): 23,
    ("inbox",): 25,
    ("inbox", 0): 25,
    ("inbox", 0, "path"): 26,
    ("inbox", 1): 28,
    ("inbox", 1, "path"): 29,
    ("inbox", 1, "sub", "key"): 31,
    ("inbox", 1, "deep", 0, "one"): 33,
    ("inbox", 1, "deep", 1, "two"): 35,
    ("engines", "my.own"): 37,
    ("engines", "my.own", "type"): 38,
    ("engines", "my.own", "quotes", 2): 39,
}


def paths_of(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    found = {path} if path else set()
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= paths_of(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found |= paths_of(inner, (*path, index))
    return found


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_of_every_kind_of_key(newline: str) -> None:
    text = TEXT.replace("\n", newline)
    lines = lines_of(text)
    assert {path: lines.get(path) for path in EXPECTED} == EXPECTED
    # Nothing inside strings or comments was taken for a key.
    assert set(lines) == paths_of(tomllib.loads(text))


def test_lines_of_an_array_of_inline_tables() -> None:
    lines = lines_of('inbox = [\n  { path = "/a" },\n  { path = "/b", name = "x" },\n]\n')
    assert lines[("inbox", 0, "path")] == 2
    assert lines[("inbox", 1, "name")] == 3


def test_lines_of_nothing() -> None:
    assert lines_of("") == {}
    assert lines_of("# only a comment") == {}


KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=6)
LEAVES = st.one_of(st.integers(-9, 9), st.booleans(), KEYS, st.floats(allow_nan=False, width=16))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.booleans())
def test_lines_of_whatever_can_be_written(data: dict[str, Any], multiline: bool) -> None:
    text = tomli_w.dumps(data, multiline_strings=multiline)
    lines = lines_of(text)
    assert set(lines) >= paths_of(tomllib.loads(text))
    written = text.replace("\r\n", "\n").split("\n")
    for path, line in lines.items():
        # A key stands in its line: bare, or quoted with its letters and digits unescaped.
        if isinstance(path[-1], str) and path[-1].isascii() and path[-1].isalnum():
            assert path[-1] in written[line - 1]
