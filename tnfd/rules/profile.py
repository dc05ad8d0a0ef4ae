"""The settings profile: a short hash of all settings that change a transcript's text, and of nothing else."""

from __future__ import annotations

import hashlib
import json

from tnfd.model import JobSettings


def profile_of(settings: JobSettings) -> str:
    """Return 16 hex digits; equal for settings that would be paid for once.

    Engines count as asked for (name, type, model, in order), not as used: fallback to the second of a list
    does not make a recording new.
    """
    material = {
        "engines": [[choice.name, choice.type, choice.model] for choice in settings.engines],
        "languages": list(settings.languages),
        "audio_languages": list(settings.audio_languages),
        "prompt": settings.prompt,
        "keywords": list(settings.keywords),
        "speakers": settings.speakers,
    }
    if settings.speakers != "off" and settings.speaker_names:  # they stand in the text
        material["voices"] = [*settings.speaker_names, *settings.speaker_samples]
    canonical = json.dumps(material, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
