"""The JSON Schemas of what tnfd writes for other programs; shipped in the package."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Literal


def schema(name: Literal["batch-1", "status-1", "transcript-1"]) -> dict[str, Any]:
    """Return one JSON Schema (draft 2020-12)."""
    text = resources.files(__name__).joinpath(f"{name}.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded
