"""Where faster-whisper's models lie on this machine, and whether one is whole; looks at names and sizes only.

Owns the rule which folder a name means: tnfd's own downloads first, then the cache that Hugging Face's
library shares between programs. Downloads nothing, loads nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# faster-whisper 1.2's names and the repositories that they stand for.
_REPOSITORIES = {
    **{
        size: f"Systran/faster-whisper-{size}"
        for size in (
            "tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en",
            "large-v1", "large-v2", "large-v3",
        )
    },
    "large": "Systran/faster-whisper-large-v3",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "distil-small.en": "Systran/faster-distil-whisper-small.en",
    "distil-medium.en": "Systran/faster-distil-whisper-medium.en",
    "distil-large-v2": "Systran/faster-distil-whisper-large-v2",
    "distil-large-v3": "Systran/faster-distil-whisper-large-v3",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
}  # fmt: skip
NAMES = tuple(_REPOSITORIES)
# Best first, as far as a machine without a graphics card can be expected to carry them.
_PREFERRED = ("small", "turbo", "large-v3-turbo", "medium", "distil-large-v3.5", "distil-large-v3", "base")
PATTERNS = ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*")

_NEEDED = {
    "model.bin": "the weights; a model of another kind has to be converted: ct2-transformers-converter",
    "config.json": "copy it from where the model came from",
    "tokenizer.json": "copy it from the model's repository; without it the network would be asked",
}
_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")


@dataclass(frozen=True, slots=True)
class Missing:
    """One file that a model's folder lacks, and what to do about it."""

    name: str
    hint: str


def repository_of(model: str) -> str | None:
    """The repository that a model's name stands for; None: it is no name, or an unknown one."""
    if model in _REPOSITORIES:
        return _REPOSITORIES[model]
    parts = model.split("/")
    is_repository = len(parts) == 2 and all(part and not part.startswith((".", "~")) for part in parts)
    return model if is_repository else None


def is_path(model: str) -> bool:
    """Whether the model is given as a folder, not by its name."""
    return model.startswith(("/", "~", "./", "../")) or model in (".", "..")


def find_missing(folder: Path) -> list[Missing]:
    """What a model's folder lacks; empty: it can be loaded, as far as names and sizes tell."""
    missing = [Missing(name, hint) for name, hint in _NEEDED.items() if not _holds(folder / name)]
    if not any(_holds(folder / name) for name in _VOCABULARIES):
        hint = "copy it from where the model came from (vocabulary.txt will do as well)"
        missing.append(Missing("vocabulary.json", hint))
    return missing


def _holds(file: Path) -> bool:
    try:
        return file.is_file() and file.stat().st_size > 0
    except OSError:
        return False


def own_folder(models_dir: Path, repository: str) -> Path:
    """Where tnfd's own download of a repository lies, or will lie."""
    return models_dir / repository.replace("/", "--")


def find_folder(model: str, models_dir: Path, environ: Mapping[str, str]) -> Path | None:
    """The folder that a model means, complete or not; None: there is none on this machine."""
    if is_path(model):
        return Path(model).expanduser()
    repository = repository_of(model)
    if repository is None:
        return None
    own = own_folder(models_dir, repository)
    if own.is_dir():
        return own
    return _cached(repository, environ)


def installed_model(models_dir: Path, environ: Mapping[str, str]) -> str | None:
    """The name of a whole model that lies on this machine; of several the one to prefer."""
    for name in dict.fromkeys((*_PREFERRED, *NAMES)):
        folder = find_folder(name, models_dir, environ)
        if folder is not None and not find_missing(folder):
            return name
    return None


def _cached(repository: str, environ: Mapping[str, str]) -> Path | None:
    """The newest snapshot in Hugging Face's cache (its layout is documented)."""
    place = _cache(environ) / f"models--{repository.replace('/', '--')}"
    try:
        commit = (place / "refs" / "main").read_text("ascii").strip()
        if commit and (place / "snapshots" / commit).is_dir():
            return place / "snapshots" / commit
        snapshots = sorted((place / "snapshots").iterdir(), key=lambda path: path.stat().st_mtime)
    except (OSError, ValueError):
        return None
    return snapshots[-1] if snapshots else None


def _cache(environ: Mapping[str, str]) -> Path:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(name):
            return Path(environ[name]).expanduser()
    if environ.get("HF_HOME"):
        return Path(environ["HF_HOME"]).expanduser() / "hub"
    home = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME") or "~", ".cache")
    return Path(home).expanduser() / "huggingface" / "hub"
