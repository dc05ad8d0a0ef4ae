"""What the test server saw: one record a request, and how busy it was over time. Never decides anything."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class Request:
    """One POST of audio. Moments are seconds on the server's monotonic clock; None: not reached."""

    id: int
    path: str
    authorization: str
    headers: dict[str, str]
    started_at: float
    received_at: float | None = None
    answered_at: float | None = None
    model: str = ""
    response_format: str = "json"
    file_name: str | None = None
    file_type: str = ""
    file_bytes: int = 0
    sha256: str = ""
    audio_s: float = 0.0
    fields: dict[str, list[str]] = field(default_factory=dict)
    status: int | None = None
    outcome: str = "open"  # ok | refused | raw | flood | hang | reset | gone
    paid: bool = False
    audio: bytes = b""  # the upload, where the server keeps it
    heard: asyncio.Future[dict[str, Any]] | None = None  # what it says, where the server listens

    def as_json(self) -> dict[str, Any]:
        """Everything but the headers; the authorization is shortened."""
        names = [one.name for one in fields(self) if one.name not in ("headers", "heard", "audio")]
        row = {name: getattr(self, name) for name in names}
        row["authorization"] = self.authorization[:12]
        return row


class Load:
    """How many requests were under way, over time."""

    def __init__(self) -> None:
        self.changes: list[tuple[float, int]] = []
        self.current = 0
        self.peak = 0

    def change(self, at: float, by: int) -> None:
        """Note that ``by`` more requests are under way from ``at`` on."""
        self.current += by
        self.peak = max(self.peak, self.current)
        self.changes.append((at, self.current))

    def busy_slot_s(self, since: float, until: float) -> float:
        """Seconds times requests under way between two moments."""
        total = 0.0
        level = 0
        last = since
        for at, after in self.changes:
            total += level * max(0.0, min(at, until) - last)
            last = max(last, min(at, until))
            level = after
        return total + level * max(0.0, until - last)
