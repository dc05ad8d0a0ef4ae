"""Which names below an inbox are recordings: a media-extension allow-list less everything that is half-made.

Owns the lists of names that other programs leave behind and the meaning of ``include`` and ``exclude``.
Decides by names alone; it never looks at a disk.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

MEDIA_EXTENSIONS = frozenset(
    (
        "aac", "ac3", "aif", "aifc", "aiff", "amr", "ape", "au", "caf", "dsf", "dts", "eac3", "flac",
        "gsm", "m4a", "m4b", "m4r", "mka", "mp2", "mp3", "mpa", "mpc", "oga", "ogg", "opus", "ra", "snd",
        "spx", "tta", "w64", "wav", "wma", "wv",
        "3g2", "3gp", "asf", "avi", "divx", "f4v", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg",
        "mpg", "mts", "mxf", "ogm", "ogv", "rm", "rmvb", "ts", "vob", "webm", "wmv", "wtv",
    )
)  # fmt: skip
IGNORE_FILE = b".tnfdignore"  # a folder that holds one is left out
SETTINGS_FILE = b".tnfd.toml"  # what holds in a folder and below it

_FOLDERS = frozenset(
    name.encode()
    for name in (
        "@eadir", "#recycle", "#snapshot", "@tmp", "@recycle", "@recently-snapshot", "lost+found",
        "$recycle.bin", "system volume information", "__macosx",
    )
)  # fmt: skip
_FILES = frozenset((b"thumbs.db", b"desktop.ini"))
_PREFIXES = ("~syncthing~", "~$", ".~lock.")
_SUFFIXES = (
    "~", ".!sync", ".part", ".filepart", ".crdownload", ".partial", ".download", ".opdownload", ".!qb",
    ".!ut", ".bc!", ".tmp", ".temp", ".ytdl", ".aria2",
)  # fmt: skip
# yt-dlp keeps the streams that it will merge as NAME.f137.mp4, NAME.f140-drc.m4a, NAME.fhls-1080.mp4.
_INTERMEDIATE = re.compile(r"\.(?:temp|f\d{2,4}(?:-[a-z0-9]+)*|f(?:hls|dash|http)[a-z0-9_-]*)\.[a-z0-9]+\Z")
_FRAGMENT = re.compile(r"\.part-frag\d*\Z")
_CONFLICT = re.compile(
    r"\.sync-conflict-\d{8}-\d{6}(?:-[A-Z0-9]+)?|conflicted copy|\(case conflict"
    r"|_conflict-|_conflict(?:\.|\Z)",
    re.IGNORECASE,
)
_COMPANIONS = (b".part", b".aria2")


@dataclass(frozen=True, slots=True)
class NameRules:
    """What an inbox's configuration adds. Globs are relative to it; ``skip_dirs`` are its own folders."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    skip_dirs: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Take:
    """A recording by its name; ``flags`` go into the transcript's flags."""

    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ignore:
    """Not taken, and why (a stable word)."""

    reason: str


def decide_name(rel: bytes, rules: NameRules) -> Take | Ignore:
    """Decide on a file by its path below the inbox."""
    folder, _, name = rel.rpartition(b"/")
    refused = decide_folder(folder, rules) if folder else None
    if refused is not None:
        return refused
    if name.startswith(b"."):
        return Ignore("hidden")
    # Compared in lower case: Windows and macOS shares change the case of what they carry.
    text = os.fsdecode(name).lower()
    reason = _half_made(name.lower(), text)
    if reason:
        return Ignore(reason)
    stem, dot, extension = text.rpartition(".")
    if not dot or not stem or extension not in MEDIA_EXTENSIONS:
        return Ignore("not_media")
    if _INTERMEDIATE.search(text):
        return Ignore("temporary")
    if rules.include or rules.exclude:
        path = _comparable(rel)
        if any(_pattern(glob).fullmatch(path) for glob in rules.exclude):
            return Ignore("excluded")
        if rules.include and not any(_pattern(glob).fullmatch(path) for glob in rules.include):
            return Ignore("not_included")
    return Take(("conflict_copy",) if _CONFLICT.search(text) else ())


def origins(rel: bytes) -> frozenset[tuple[bytes, bytes]]:
    """Return what a file that is renamed away may become: marks that ``destinations`` gives as well.

    ``.talk.mp3.Ab3dE9``, ``talk.mp3.part``, ``~syncthing~talk.mp3.tmp`` become talk.mp3 beside them, whatever
    lies in another folder keeps its name. Of a name that says nothing (``tmp83a1``) it cannot be told.
    """
    folder, _, name = rel.rpartition(b"/")
    bare = name.lower().removeprefix(b"~syncthing~").removeprefix(b".syncthing").lstrip(b"._~$")
    parts = bare.split(b".")[:16]
    beside = {(folder, b".".join(parts[:count])) for count in range(1, len(parts))}
    return frozenset({(b"", b"/" + name), *beside})


def destinations(rel: bytes) -> frozenset[tuple[bytes, bytes]]:
    """Return the marks of a file that may have been renamed to this path; see ``origins``."""
    folder, _, name = rel.rpartition(b"/")
    return frozenset({(b"", b"/" + name), (folder, name.lower().rpartition(b".")[0])})


@lru_cache(maxsize=4096)
def decide_folder(rel: bytes, rules: NameRules) -> Ignore | None:
    """Decide on a folder by its path below the inbox; None: its files are looked at."""
    parent, _, name = rel.rpartition(b"/")
    if parent:
        refused = decide_folder(parent, rules)
        if refused is not None:
            return refused
    if name.startswith(b"."):
        return Ignore("hidden")
    if name.lower() in _FOLDERS:
        return Ignore("system")
    if rel in rules.skip_dirs:
        return Ignore("own_folder")
    path = _comparable(rel)
    for glob in rules.exclude:
        # "drafts/**" names all that is in /drafts, so that need not be entered.
        whole = "/" + glob.removesuffix("/**").lstrip("/") if glob.endswith("/**") else glob
        if _pattern(whole, folder=True).fullmatch(path):
            return Ignore("excluded")
    return None


def companions(rel: bytes) -> tuple[bytes, ...]:
    """Return the paths that, while they exist, say that ``rel`` is still being downloaded."""
    return tuple(rel + suffix for suffix in _COMPANIONS)


def _half_made(name: bytes, text: str) -> str:
    """Return the reason to leave a name alone that belongs to another program; "" for none."""
    if name in _FILES:
        return "system"
    if text.startswith(_PREFIXES) or text.endswith(_SUFFIXES) or _FRAGMENT.search(text):
        return "temporary"
    return ""


def _comparable(rel: bytes) -> str:
    """Return the path as globs see it: a Mac writes in NFD what people type in NFC."""
    return unicodedata.normalize("NFC", os.fsdecode(rel))


@lru_cache(maxsize=512)
def _pattern(glob: str, *, folder: bool = False) -> re.Pattern[str]:
    """Translate a glob as in a .gitignore, but without regard to case.

    ``*`` and ``?`` stay inside one name, ``**`` spans folders. Without a slash (but for one at the end)
    the glob matches at any depth, else it starts at the inbox. What matches a folder matches all that is
    in it. A slash at the end restricts it to folders; ``folder`` says that the path to be matched is one.
    """
    glob = unicodedata.normalize("NFC", glob)
    folders_only = glob.endswith("/")
    body = glob.strip("/")
    anchored = "/" in glob.rstrip("/")
    parts = body.split("/")
    out = "" if anchored else "(?:.*/)?"
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            out += ".+" if last else "(?:.*/)?"
        else:
            out += _segment(part) + ("" if last else "/")
    out += "/.+" if folders_only and not folder else "(?:/.*)?"
    return re.compile(out, re.IGNORECASE | re.DOTALL)


def _segment(part: str) -> str:
    """Translate one name of a glob."""
    out = ""
    at = 0
    while at < len(part):
        char = part[at]
        at += 1
        if char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[" and (end := part.find("]", at + 1 + (part[at : at + 1] == "!"))) > 0:
            out += _class(part[at:end])
            at = end + 1
        elif char == "\\" and at < len(part):
            out += re.escape(part[at])
            at += 1
        else:
            out += re.escape(char)
    return out


def _class(inside: str) -> str:
    """Translate what stands between brackets; a range that makes no sense ("z-a") stands for itself."""
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside)
    body = "^" + escaped[1:] if inside.startswith("!") else escaped
    try:
        re.compile(f"[{body}]")
    except re.error:
        return re.escape(f"[{inside}]")
    return f"(?!/)[{body}]"
