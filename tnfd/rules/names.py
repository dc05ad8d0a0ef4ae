"""Names of outputs and status files: which name comes first, which next when it is taken, how it is shown.

Works on bytes, as the operating system does, so that a name that is not UTF-8 keeps its bytes. Never looks
at a disk and never decides what is taken: the caller knows that.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Iterator

MAX_NAME_BYTES = 255  # NAME_MAX of ext4, xfs, btrfs, tmpfs, zfs; eCryptfs (encrypted NAS shares) has 143
STATUS_SUFFIX = b".status.json"
FIELDS = frozenset({"stem", "name", "lang", "ext"})

_LANG = re.compile(r"[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8}){0,3}")  # a BCP 47 tag; servers may send anything
_SEPARATOR, _SEPARATOR_BEFORE = re.compile(rb"^[ ._-]"), re.compile(rb"[ ._-]$")
_COUNTED = re.compile(rb" \([1-9][0-9]{0,8}\)$")
_MARK = 9  # bytes of "~" and 8 hex digits


def problem_of(name_format: str) -> str | None:
    """Say what is wrong with a ``name_format`` in a few words; None if it can be used."""
    try:
        parts = list(string.Formatter().parse(name_format))
    except ValueError as error:
        return str(error)
    fields = {field for _, field, _, _ in parts if field is not None}
    if unknown := sorted(fields - FIELDS):
        return f"unknown field {{{unknown[0]}}}; known are {', '.join(sorted(FIELDS))}"
    if any(spec or conversion for _, _, spec, conversion in parts):
        return "fields take no conversion and no format"
    if "ext" not in fields or not fields & {"stem", "name"}:
        return "needs {ext}, and {stem} or {name}"
    literal = "".join(text for text, _, _, _ in parts)
    if "/" in literal or "\\" in literal or not literal.isprintable():
        return "a name, not a path: no slashes, no control characters"
    if name_format.startswith("."):
        return "must not start with a dot: hidden files are left out by most programs"
    return None


def candidate_names(
    input_name: bytes,
    ext: str,
    name_format: str,
    lang: str | None,
    sha256: str,
    *,
    limit: int = MAX_NAME_BYTES,
) -> Iterator[bytes]:
    """Give names for one output without end, best first; no two of them fold to the same.

    By the format, then ``talk.m4a.txt``, ``talk.m4a (2).txt``, ``talk.m4a (3).txt``, ... A name longer than
    ``limit`` bytes is cut on a character boundary and marked with ``~`` and the first 8 digits of ``sha256``.
    Never the input's own name, never its status file's, never hidden unless the input is.
    """
    suffix = b"." + ext.encode()
    seen = {fold(input_name), fold(status_name(input_name, limit=limit))}
    counted = (b"" if n == 1 else b" (%d)" % n for n in itertools.count(1))
    whole = (input_name + count + suffix for count in counted)
    # What is kept of a name that is too long: everything from the count, or from the last dot, on.
    for wanted in itertools.chain((_formatted(input_name, ext, name_format, lang),), whole):
        if not wanted:
            continue
        name = _fit(wanted, _tail(wanted, suffix), sha256, limit)
        key = fold(name)
        if key not in seen:
            seen.add(key)
            yield name


def choose_name(candidates: Iterable[bytes], taken: Callable[[str], bool]) -> bytes:
    """Return the first candidate whose folded form is not ``taken``."""
    return next(name for name in candidates if not taken(fold(name)))


def edited_names(
    name: bytes, input_name: bytes, sha256: str, *, limit: int = MAX_NAME_BYTES
) -> Iterator[bytes]:
    """Give names for a new version of the output ``name`` that somebody has edited: ``talk (2).txt``, ...

    A count that tnfd itself put there goes up; one that belongs to the input's name stays.
    """
    head, dot, ext = name.rpartition(b".")
    if not head:
        head, dot, ext = name, b"", b""
    if (found := _COUNTED.search(head)) and head not in (input_name, stem(input_name)):
        head = head[: found.start()]
    for n in itertools.count(2):
        tail = b" (%d)" % n + dot + ext
        wanted = _fit(head + tail, tail, sha256, limit)
        if fold(wanted) != fold(name):
            yield wanted


def moved_names(name: bytes, sha256: str, *, limit: int = MAX_NAME_BYTES) -> Iterator[bytes]:
    """Give names for a file that comes to another folder: its own, ``talk (2).mp3``, ``talk (3).mp3``, ...

    A status file goes on as ``status_names`` does: ``talk.mp3 (2).status.json``.
    """
    yield name
    if name.endswith(STATUS_SUFFIX):
        for n in itertools.count(2):
            tail = b" (%d)" % n + STATUS_SUFFIX
            yield _fit(name.removesuffix(STATUS_SUFFIX) + tail, tail, hashlib.sha256(name).hexdigest(), limit)
    yield from edited_names(name, name, sha256, limit=limit)


def status_names(input_name: bytes, *, limit: int = MAX_NAME_BYTES) -> Iterator[bytes]:
    """Give names for a file's status file: the whole input name and ``.status.json``, then counted ones.

    The 8 digits of a name that had to be cut are those of the *name's* hash: a status file is written
    before the content is hashed.
    """
    digits = hashlib.sha256(input_name).hexdigest()
    for n in itertools.count(1):
        tail = (b"" if n == 1 else b" (%d)" % n) + STATUS_SUFFIX
        yield _fit(input_name + tail, tail, digits, limit)


def status_name(input_name: bytes, *, limit: int = MAX_NAME_BYTES) -> bytes:
    """Return the first of ``status_names``."""
    return next(status_names(input_name, limit=limit))


def fold(name: bytes) -> str:
    """Return the form in which names are compared: equal where some file system takes two for one.

    Unicode's canonical caseless match (Unicode 3.13, D145), composed; bytes that are not UTF-8 stand for
    themselves.
    """
    text = unicodedata.normalize("NFD", name.decode("utf-8", "surrogateescape"))
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text.casefold()))


def stem(input_name: bytes) -> bytes:
    """Return the name without its last extension; leading dots belong to the stem."""
    bare = input_name.lstrip(b".")
    head, dot, _ = bare.rpartition(b".")
    if not dot:
        return input_name
    return input_name[: len(input_name) - len(bare)] + head


def printable(name: bytes) -> str:
    r"""Return the name as JSON shows it: exact where it is UTF-8, other bytes as ``\xNN``."""
    return name.decode("utf-8", "backslashreplace")


def for_terminal(name: bytes) -> str:
    r"""Return the name for people's eyes: as ``printable``, and control characters as ``\xNN`` too."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in printable(name)
    )


def name_base64(name: bytes) -> str | None:
    """Return the name's bytes in base64 where it is not UTF-8, else None."""
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(name).decode()
    return None


def _formatted(input_name: bytes, ext: str, name_format: str, lang: str | None) -> bytes:
    """Fill the format in; empty where nothing usable comes out."""
    code = lang.encode() if lang is not None and _LANG.fullmatch(lang) else None
    values = {"stem": stem(input_name), "name": input_name, "lang": code, "ext": ext.encode()}
    filled = b""
    first = False  # whether an unknown language was the first thing in the format
    for literal, field, _, _ in string.Formatter().parse(name_format):
        text = literal.encode("utf-8", "surrogateescape")
        if first:
            text = _SEPARATOR.sub(b"", text)
        value = values[field] if field is not None else b""
        if value is None:
            # It drops with the dot (or the like) before it; at the start, with the one after it.
            text, value = _SEPARATOR_BEFORE.sub(b"", text), b""
            first = not filled + text
        else:
            first = False
        filled += text + value
    filled = filled.translate(None, b"/\0")
    return filled if input_name.startswith(b".") else filled.lstrip(b".")


def _tail(name: bytes, suffix: bytes) -> bytes:
    """Return what must survive a cut: the extension, and a count before it."""
    if not name.endswith(suffix):
        return b""
    found = _COUNTED.search(name[: -len(suffix)])
    return name[found.start() :] if found else suffix


def _fit(name: bytes, tail: bytes, digits: str, limit: int) -> bytes:
    """Cut the name before its tail so that it has at most ``limit`` bytes with the mark."""
    if len(name) <= limit:
        return name
    room = limit - _MARK - len(tail)
    return name[: _boundary(name, room)] + b"~" + digits[:8].encode() + tail


def _boundary(name: bytes, at: int) -> int:
    """Return the last character boundary of UTF-8 at or before ``at``; ``at`` itself in other bytes."""
    for back in range(min(4, at + 1)):
        if name[at - back] & 0xC0 != 0x80:
            return at - back
    return at
