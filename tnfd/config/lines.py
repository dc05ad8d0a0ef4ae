"""Where each key of a TOML text stands: tomllib gives the values, this gives the line numbers.

A small scanner of its own, for texts that tomllib has already accepted: it never judges, it only counts.
"""

from __future__ import annotations

import bisect
import re
import tomllib

Step = str | int
KeyPath = tuple[Step, ...]  # ("inbox", 0, "formats", 1): the second element of the first inbox's formats

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_VALUE = re.compile(r"[^,\]}\n#]*")
_REST_OF_LINE = re.compile(r"[^\n]*")
# The many-line forms first; they may end with up to two quotes of their own before the closing three.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)


def lines_of(text: str) -> dict[KeyPath, int]:
    """Give the line (from 1) of every table, key and array element of a valid TOML text."""
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.scan()
    return scanner.lines


class _Scanner:
    """Walks through the text once."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._pos = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._last: dict[KeyPath, int] = {}  # array of tables -> index of its newest element

    def scan(self) -> None:
        """Fill ``lines``."""
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._pos < len(self._text):
            if self._take("[["):
                table = self._append(self._key())
            elif self._take("["):
                table = self._enter(self._key())
            else:
                self._pair(table)
            self._skip(_REST_OF_LINE)
            self._skip(_BLANK)

    def _line(self) -> int:
        return bisect.bisect_left(self._newlines, self._pos) + 1

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._pos)
        if match is None:
            return ""
        self._pos = match.end()
        return match.group()

    def _take(self, token: str) -> bool:
        if not self._text.startswith(token, self._pos):
            return False
        self._pos += len(token)
        return True

    def _key(self) -> tuple[str, ...]:
        """Read ``a."b c".d``."""
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            quoted = self._skip(_STRING)
            # tomllib knows the escapes; a quoted key is a one-line string.
            parts.append(tomllib.loads(f"k = {quoted}")["k"] if quoted else self._skip(_BARE_KEY))
            self._skip(_SPACE)
            if not self._take("."):
                return tuple(parts)

    def _enter(self, names: tuple[str, ...]) -> KeyPath:
        path: KeyPath = ()
        for name in names:
            path = (*path, name)
            self.lines.setdefault(path, self._line())
            if path in self._last:
                path = (*path, self._last[path])
        return path

    def _append(self, names: tuple[str, ...]) -> KeyPath:
        path: KeyPath = (*self._enter(names[:-1]), names[-1])
        self.lines.setdefault(path, self._line())
        index = self._last[path] = self._last.get(path, -1) + 1
        self.lines[(*path, index)] = self._line()
        return (*path, index)

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for name in self._key():
            path = (*path, name)
            self.lines.setdefault(path, line)
        self._take("=")
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        if self._take("["):
            self._items(path, "]")
        elif self._take("{"):
            self._items(path, "}")
        elif not self._skip(_STRING):
            self._skip(_BARE_VALUE)

    def _items(self, path: KeyPath, closing: str) -> None:
        index = 0
        self._skip(_BLANK)
        while self._pos < len(self._text) and not self._take(closing):
            if closing == "}":
                self._pair(path)
            else:
                self.lines[(*path, index)] = self._line()
                self._value((*path, index))
            index += 1
            self._skip(_BLANK)
            self._take(",")
            self._skip(_BLANK)
