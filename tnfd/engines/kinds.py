"""Which server program answers behind an address that says nothing, and how to talk to it. Pure.

A server gives itself away by its list of models or by its Server header; nothing is asked of the owner. Read
in the servers' code or reported in public [field], as of November 2026.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tnfd.engines.profiles import Profile

# whisper.cpp's server: one request at a time; a missing language means English.
_WHISPER_CPP = {"max_concurrency": 1, "detect": "auto"}
# speaches leaves segments out unless told otherwise.
_SPEACHES = {"without_timestamps": True}
# LocalAI: its web server takes 15 MB.
_LOCALAI = {"max_bytes": 14_000_000}
# vLLM: no times of words; times drift about 0.5 s each 30 s [field], so every request is shorter.
_VLLM = {"max_s": 29.0, "words": False, "max_concurrency": 5}

_KINDS: dict[str, dict[str, Any]] = {
    "whisper.cpp": _WHISPER_CPP, "speaches": _SPEACHES, "localai": _LOCALAI, "vllm": _VLLM,
}  # fmt: skip


def kind_of(server: str, models: bytes | None) -> str | None:
    """Name the program; ``server`` is its Server header, ``models`` the body of its list of models."""
    if "whisper.cpp" in server.lower():
        return "whisper.cpp"
    if "localai" in server.lower():
        return "localai"
    rows = _rows(models)
    if any(row.get("owned_by") == "vllm" for row in rows):
        return "vllm"
    if any("task" in row and "language" in row and "owned_by" in row for row in rows):
        return "speaches"
    # LocalAI's rows hold nothing but these two (read in its code); others say who owns a model.
    if rows and all(set(row) == {"id", "object"} for row in rows):
        return "localai"
    return None


def _rows(models: bytes | None) -> list[dict[str, Any]]:
    try:
        rows = json.loads(models or b"")["data"]
        return [row for row in rows if isinstance(row, dict)]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []


def refine(profile: Profile, kind: str) -> Profile:
    """What is known of this kind, on top of what the address told."""
    refined: Profile = replace(profile, kind=kind, **_KINDS[kind])
    return refined
