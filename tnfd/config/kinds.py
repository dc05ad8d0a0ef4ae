"""The kinds of values that a configuration holds: what each accepts, and how it is written.

A kind turns a value as TOML (or, by ``from_text``, an environment variable) gives it into the value that the
program works with. It looks at no disk and knows nothing of keys.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tnfd.config import forms
from tnfd.config.forms import nearest, shown


class Mismatch(ValueError):
    """A value is not of its kind; ``found`` holds (index in the list or None, message) for each mistake.

    ``good`` is what could be taken nevertheless, of a list.
    """

    def __init__(self, *found: tuple[int | None, str], good: tuple[str, ...] = ()) -> None:
        self.found = found
        self.good = good
        super().__init__("; ".join(message for _, message in found))


@dataclass(frozen=True, slots=True)
class Origin:
    """What relative paths and ``~`` start from: the file's own folder, or the current one."""

    folder: Path
    environ: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value.

    ``take`` raises Mismatch. ``from_text`` never fails: what it cannot read it leaves for ``take`` to refuse.
    ``private``: the value may be a secret written into the wrong place, so no message repeats it.
    """

    expected: str
    take: Callable[[object, Origin], Any]
    from_text: Callable[[str], object] = str
    to_toml: Callable[[Any], object] = lambda value: value
    private: bool = False


def _refuse(expected: str, value: object, more: str = "") -> Mismatch:
    return Mismatch((None, f"expected {expected}, found {shown(value)}{more}"))


def _commas(text: str) -> object:
    return [part.strip() for part in text.split(",") if part.strip()]


# -- plain values ----------------------------------------------------------------------------------------


def switch() -> Kind:
    """``true`` or ``false``."""
    words = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(
        ("false", "0", "no", "off"), False
    )

    def take(value: object, _: Origin) -> bool:
        if not isinstance(value, bool):
            raise _refuse("true or false", value)
        return value

    return Kind("true or false", take, lambda text: words.get(text.lower(), text))


def whole(least: int, most: int = 1_000_000) -> Kind:
    """A whole number within bounds."""
    expected = f"a whole number from {least} to {most}"

    def take(value: object, _: Origin) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _refuse(expected, value)
        return value

    def from_text(text: str) -> object:
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()) else text

    return Kind(expected, take, from_text)


def _as_number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def number(least: float, most: float = 1e9, *, unit: str = "", also: float | None = None) -> Kind:
    """A finite number within bounds; ``also`` is one more value with a meaning of its own."""
    expected = f"a number{unit} of at least {least:g}" + (f" (or {also:g})" if also is not None else "")

    def take(value: object, _: Origin) -> float:
        found = _finite(value)
        if found is None or not (least <= found <= most or found == also):
            raise _refuse(expected, value)
        return found

    return Kind(expected, take, _as_number)


def rising_pair() -> Kind:
    """Two positive numbers of seconds, the second not below the first."""
    expected = "two numbers of seconds, [first, longest], above 0 and rising"

    def take(value: object, _: Origin) -> tuple[float, float]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise _refuse(expected, value)
        first, longest = _finite(value[0]), _finite(value[1])
        if first is None or longest is None or not 0 < first <= longest <= 1e9:
            raise Mismatch((None, f"expected {expected}, found [{shown(value[0])}, {shown(value[1])}]"))
        return first, longest

    def from_text(text: str) -> object:
        return [_as_number(part) for part in text.split(",")]

    return Kind(expected, take, from_text, list)


def text(
    expected: str = "a text", check: Callable[[str], str | None] | None = None, *, private: bool = False
) -> Kind:
    """A text; ``check`` says what is wrong with it, or None."""

    def take(value: object, _: Origin) -> str:
        if not isinstance(value, str):
            raise Mismatch((None, f"expected {expected}")) if private else _refuse(expected, value)
        complaint = check(value) if check else None
        if complaint:
            raise Mismatch((None, complaint))
        return value

    return Kind(expected, take, private=private)


def one_of(*choices: str) -> Kind:
    """One of a few words."""
    expected = "one of " + ", ".join(choices)

    def take(value: object, _: Origin) -> str:
        if not isinstance(value, str) or value not in choices:
            raise _refuse(expected, value, nearest(value, choices) if isinstance(value, str) else "")
        return value

    return Kind(expected, take)


def texts(
    expected: str,
    check: Callable[[str], str | None],
    *,
    at_least: int = 0,
    distinct: bool = False,
    change: Callable[[str], str] = str,
) -> Kind:
    """A list of texts; all bad elements are named at once."""

    def take(value: object, _: Origin) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise _refuse(f"a list of {expected}", value)
        wrong: list[tuple[int | None, str]] = []
        good: list[str] = []
        for index, item in enumerate(value):
            if not isinstance(item, str):
                wrong.append((index, f"expected a list of {expected}, found {shown(item)} in it"))
                continue
            changed = change(item)
            complaint = check(changed)
            if complaint is None and distinct and changed in good:
                complaint = f"{shown(item)} stands there twice"
            if complaint:
                wrong.append((index, complaint))
            else:
                good.append(changed)
        if wrong:
            raise Mismatch(*wrong, good=tuple(good))
        if len(good) < at_least:
            raise Mismatch((None, f"expected a list of at least {at_least} of {expected}"))
        return tuple(good)

    return Kind(f"a list of {expected}", take, _commas, list)


def text_or_texts(kind: Kind, *, absent: str) -> Kind:
    """One text, or a list of them; ``absent`` is the text that means none."""

    def take(value: object, origin: Origin) -> Any:
        if isinstance(value, str):
            value = [] if value == absent else [value]
            try:
                return kind.take(value, origin)
            except Mismatch as wrong:
                # There is no list whose element could be pointed at.
                raise Mismatch(*((None, message) for _, message in wrong.found)) from None
        if not isinstance(value, list | tuple):
            raise _refuse(f"a text or {kind.expected}", value)
        return kind.take(value, origin)

    def to_toml(value: Any) -> object:
        return absent if not value else value[0] if len(value) == 1 else list(value)

    def from_text(text: str) -> object:
        return absent if text.strip() == absent else _commas(text)

    return Kind(f"a text or {kind.expected}", take, from_text, to_toml)


# -- paths -----------------------------------------------------------------------------------------------


def absolute(written: str, origin: Origin) -> Path:
    """Expand ``~`` and make a path absolute; links stay as they are.

    Raises:
        Mismatch: no home folder is known, or the path holds a zero byte.
    """
    if "\0" in written:
        raise Mismatch((None, "expected a path, found one with a zero byte"))
    head, _, rest = written.partition("/")
    if head == "~" and origin.environ.get("HOME"):
        written = os.path.join(origin.environ["HOME"], rest)
    elif head.startswith("~"):
        written = os.path.expanduser(written)
        if written.startswith("~"):
            raise Mismatch((None, f"no home folder is known for {shown(head)}; write the whole path"))
    return Path(os.path.abspath(os.path.join(origin.folder, written)))


def _to_text(value: Path | None) -> object:
    return "" if value is None else str(value)


def path(expected: str = "a path", *, optional: bool = False, private: bool = False) -> Kind:
    """A path, made absolute; with ``optional`` the empty text is None."""

    def take(value: object, origin: Origin) -> Path | None:
        if not isinstance(value, str):
            raise Mismatch((None, f"expected {expected}")) if private else _refuse(expected, value)
        if not value:
            if optional:
                return None
            raise Mismatch((None, f"expected {expected}, found nothing"))
        return absolute(value, origin)

    return Kind(expected, take, to_toml=_to_text, private=private)


def paths(expected: str) -> Kind:
    """A list of paths, made absolute."""

    def take(value: object, origin: Origin) -> tuple[Path, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one for one in value):
            raise _refuse(f"a list of {expected}", value)
        return tuple(absolute(one, origin) for one in value)

    return Kind(f"a list of {expected}", take, _commas, lambda value: [str(one) for one in value])


def model() -> Kind:
    """A model's name, or the folder that it lies in, which is made absolute."""
    plain = text("a model's name", forms.check_label)

    def take(value: object, origin: Origin) -> str:
        written: str = plain.take(value, origin)
        return str(absolute(written, origin)) if written.startswith(("~", "./", "../")) else written

    return Kind(plain.expected, take)


def inbox_relative(expected: str) -> Kind:
    """A folder that may be written relative to the inbox; kept as written, ``~`` expanded; empty is none."""

    def take(value: object, origin: Origin) -> str:
        if not isinstance(value, str):
            raise _refuse(expected, value)
        if value.startswith("~") or "\0" in value:
            return str(absolute(value, origin))
        return value

    return Kind(expected, take)


def languages() -> Kind:
    """``"auto"``, a code, or a list of codes; taken in lower case."""
    return text_or_texts(
        texts("language codes", forms.check_language, distinct=True, change=str.lower), absent="auto"
    )


def stream_languages() -> Kind:
    """A list of language tags; one text is accepted too."""
    kind = texts("language codes", forms.check_language, distinct=True, change=str.lower)
    return replace(text_or_texts(kind, absent=""), to_toml=list)
