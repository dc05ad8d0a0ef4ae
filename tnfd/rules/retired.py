"""Models that end on a known day. Pure; sources beside the dates."""

from __future__ import annotations

from datetime import UTC, datetime

RETIRED_AT = datetime(2027, 2, 26, tzinfo=UTC)  # openai 3.54, types/audio_model.py
_RETIRING = ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")


def retired_at(model: str) -> datetime | None:
    """When OpenAI shuts a model down, dated names included; None: no day is known."""
    return RETIRED_AT if any(model == name or model.startswith(f"{name}-") for name in _RETIRING) else None
