"""The status file: what stands in it, and when it is written.

Owns the writing of schema ``tnfd.status/1`` (``tnfd/schemas/status-1.schema.json``); reading it back is
``rules.adopt``. Never touches a disk.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from tnfd.model import Job, JobState, Usage
from tnfd.rules.names import name_base64, printable

SCHEMA = "tnfd.status/1"
PERIOD_S = 10.0  # a state lasts this long before it is shown, and changes are shown this often at most

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"


class StatusAction(StrEnum):
    """What to do with a job's status file now."""

    WRITE = "write"
    REMOVE = "remove"  # if it is ours
    LEAVE = "leave"


def decide_status(
    setting: Literal["always", "failures", "never"],
    state: JobState,
    *,
    in_state_s: float,
    since_written_s: float | None,
    changed: bool,
    has_outputs: bool,
) -> StatusAction:
    """Say what to do with a status file.

    ``since_written_s`` is the time since it was written (None: never), ``changed`` whether it would say
    something else now, ``has_outputs`` whether any output of the job is on disk.
    """
    if setting == "never":
        return StatusAction.LEAVE
    if state.final:
        gone = state is JobState.VANISHED and not has_outputs
        fine = setting == "failures" and state not in (JobState.FAILED, JobState.PARTIAL)
        if gone or fine:
            return StatusAction.REMOVE
        return StatusAction.WRITE if changed or since_written_s is None else StatusAction.LEAVE
    if setting == "failures" or in_state_s < PERIOD_S:
        return StatusAction.LEAVE
    if since_written_s is None or (changed and since_written_s >= PERIOD_S):
        return StatusAction.WRITE
    return StatusAction.LEAVE


def render_status(job: Job, *, instance: str, now: datetime) -> bytes:
    """Return the status file's bytes; ``now`` becomes ``updated_at``."""
    whole = status_object(job, instance=instance, updated_at=now)
    text = json.dumps(whole, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    return text.encode("utf-8", "replace")  # a lone surrogate in a message from outside


def status_object(job: Job, *, instance: str, updated_at: datetime) -> dict[str, Any]:
    """Return what stands in the status file, as plain JSON values."""
    media, engine, error, waiting = job.media, job.engine, job.error, job.waiting
    return {
        "schema": SCHEMA,
        "job": job.id,
        "state": job.state.value,
        "instance": instance,
        "profile": job.profile,
        "updated_at": moment(updated_at),
        "source": {
            **_named("name", job.source.name),
            "size_bytes": job.source.stat.size_bytes,
            "modified_at": moment_of_ns(job.source.stat.mtime_ns),
            "sha256": job.sha256,
        },
        "media": media
        and {
            "container": media.container,
            "codec": media.codec,
            "duration_s": _rounded(media.duration_s, 3),
            "decoded_s": _rounded(media.decoded_s, 3),
            "audio_streams": media.audio_streams,
        },
        "engine": engine
        and {
            "name": engine.name,
            "type": engine.type,
            "model": engine.model,
            **({"why": job.engine_why} if job.engine_why else {}),
        },
        "progress": {"chunks_done": job.chunks_done, "chunks_total": job.chunks_total},
        "failures": job.failures,
        "waiting": waiting
        and {
            "reason": waiting.reason.value,
            "until": _moment_or_none(waiting.until),
            "detail": waiting.detail,
        },
        "error": error
        and {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "retryable": error.retryable,
        },
        **_result(job),
        "timing": {
            "seen_at": moment(job.seen_at),
            "settled_at": _moment_or_none(job.settled_at),
            "started_at": _moment_or_none(job.started_at),
            "finished_at": _moment_or_none(job.finished_at),
        },
    }


def moment(at: datetime) -> str:
    """Return a moment as people's programs read it: ``2026-11-23T16:02:11Z``."""
    # strftime's %Y does not pad on every libc.
    at = at.astimezone(UTC)
    return f"{at.year:04}{at.strftime(_MOMENT.removeprefix('%Y'))}"


def _result(job: Job) -> dict[str, Any]:
    """Return what came out of the work so far."""
    copy = job.duplicate_of
    # A copy costs nothing: what its transcription took is counted where it was paid.
    usage = Usage() if copy is not None or job.state is JobState.DUPLICATE else job.usage
    return {
        "outputs": {
            output.format: {**_named("name", output.name), "sha256": output.sha256}
            for output in job.outputs
            if output.sha256 is not None  # else: reserved, not yet written
        },
        "timestamps": job.timestamps,
        "languages": list(job.languages),
        "speakers": job.settings.speakers,
        "gaps": [
            {"start_s": round(gap.start_s, 3), "end_s": round(gap.end_s, 3), "error": gap.error}
            for gap in job.gaps
        ],
        "flags": list(dict.fromkeys(job.flags)),
        "doubts": [
            {"start_s": round(doubt.start_s, 3), "end_s": round(doubt.end_s, 3), "flag": doubt.flag}
            for doubt in job.doubts
        ],
        "duplicate_of": copy and {"job": copy[0], **_named("path", copy[1])},
        "usage": {
            "audio_s": round(usage.audio_s, 3),
            "requests": usage.requests,
            "uploaded_bytes": usage.uploaded_bytes,
            "cost_usd": round(usage.cost_usd, 6),
        },
    }


def _named(key: str, name: bytes) -> dict[str, str]:
    """Return a name or path as shown, with its bytes beside it where they are not UTF-8."""
    encoded = name_base64(name)
    return {key: printable(name)} | ({} if encoded is None else {f"{key}_base64": encoded})


def _moment_or_none(at: datetime | None) -> str | None:
    return None if at is None else moment(at)


def moment_of_ns(ns: int) -> str | None:
    """Return a file's time; None where it lies outside of the calendar (damaged file systems, archives)."""
    try:
        return moment(_EPOCH + timedelta(seconds=ns // 1_000_000_000))
    except OverflowError:
        return None


def _rounded(value: float | None, digits: int) -> float | None:
    """Return a number that JSON can hold; None for what is unknown or endless."""
    return round(value, digits) if value is not None and math.isfinite(value) else None
