"""The texts that have a form of their own: languages, globs, names, addresses. Each check says what is wrong.

Pure; every function gives None for a text that will do. None repeats what may be a secret.
"""

from __future__ import annotations

import difflib
import re
from urllib.parse import urlsplit

from tnfd.rules.names import problem_of


def shown(value: object) -> str:
    """Describe a wrong value in a few words."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
        case int() | float():
            return str(value)
        case list() | tuple():
            return "a list"
        case dict():
            return "a table"
        case _:
            return f"a {type(value).__name__}"


def nearest(word: str, choices: list[str] | tuple[str, ...]) -> str:
    """Give `` (did you mean "x"?)`` or nothing."""
    close = difflib.get_close_matches(word, choices, n=1) or difflib.get_close_matches(
        word.lower(), choices, n=1
    )
    return f' (did you mean "{close[0]}"?)' if close else ""


_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_language(code: str) -> str | None:
    """Accept ``en``, ``pt-br``, ``yue``."""
    if _LANGUAGE.fullmatch(code):
        return None
    return f'expected a language code such as "en" or "pt-BR", found {shown(code)}'


def check_glob(pattern: str) -> str | None:
    """Refuse what can never match a path below an inbox, or is not finished."""
    if not pattern.strip().strip("/"):
        return f"expected a glob, found {shown(pattern)}"
    if ".." in pattern.split("/"):
        return f'globs cannot lead out of the inbox with "..": {shown(pattern)}'
    if "\0" in pattern or "\n" in pattern:
        return "expected a glob, found a zero byte or a line break in it"
    # What is escaped, and whole sets: "]" may be a set's first member, after "!" too.
    rest = re.sub(r"\\.|\[!?\]?[^\]]*\]", "", pattern)
    if "[" in rest:
        return f'the "[" of {shown(pattern)} is never closed'
    return None


def check_keyword(keyword: str) -> str | None:
    """Refuse keywords that gpt-transcribe would refuse with the whole request (vendor's page)."""
    if not keyword.strip():
        return "expected a keyword, found an empty text"
    if any(char in keyword for char in "<>\r\n"):
        return f"a keyword holds no <, > or line break: {shown(keyword)}"
    return None


def check_speaker(name: str) -> str | None:
    """Accept a name as it may stand before what somebody says."""
    if not name.strip() or name != " ".join(name.split()):
        return f"expected a speaker's name, found {shown(name)}"
    if any(char in name for char in "<>") or not name.isprintable() or len(name) > 60:
        return f"a speaker's name is at most 60 letters, without < and >: {shown(name)}"
    return None


def check_name_format(form: str) -> str | None:
    """Accept what names can be made of (see ``rules.names``)."""
    complaint = problem_of(form)
    return f"{shown(form)} makes no file names: {complaint}" if complaint else None


def check_base_url(url: str) -> str | None:
    """Accept empty, or http(s) with a host, without a user, a query or a fragment."""
    if not url:
        return None
    expected = "expected a URL such as http://host:8000/v1"
    if "@" in url:
        return f"{expected}, without user and password: keys belong into api_key_file or api_key_env"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        return f"{expected}, found {shown(url)}: {error}"
    if not good or not url.isprintable() or " " in url:
        return f"{expected}, found {shown(url)}"
    if parts.query or parts.fragment:
        return f"{expected}, without ? and #"
    return None


def lacks_path(url: str) -> bool:
    """Whether a good URL is a server's bare address; APIs lie below a path, nearly always ``/v1``."""
    return not urlsplit(url).path.strip("/")


def check_variable(name: str) -> str | None:
    """Accept empty or the name of an environment variable; never repeats what was written."""
    if not name or _VARIABLE.fullmatch(name):
        return None
    return "expected the NAME of an environment variable, not the key itself"


def check_subfolder(name: str) -> str | None:
    """Accept a relative folder below the inbox."""
    parts = name.split("/")
    if not name or name.startswith(("/", "~")) or ".." in parts or "\0" in name or set(parts) <= {"", "."}:
        return f"expected a folder relative to the inbox, found {shown(name)}"
    return None


def check_label(name: str) -> str | None:
    """Accept what can be printed on one line."""
    if name and not name.isprintable():
        return "expected a name without control characters"
    return None
