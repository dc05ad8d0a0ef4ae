"""The bundled recording: owns its whereabouts; ``make_sample.sh`` beside it is its recipe."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path


def sample() -> AbstractContextManager[Path]:
    """Give the path of a spoken English recording of 7 seconds, for as long as the context lasts."""
    return as_file(files(__name__) / "sample.mp3")


def sample_text() -> str:
    """What is said in it, as one line."""
    return " ".join((files(__name__) / "sample.txt").read_text(encoding="utf-8").split())
