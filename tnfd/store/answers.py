"""What becomes of a recording on its way: the plan of cuts, their answers. Units of work for the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import replace

from tnfd.model import (
    ChunkResult,
    Cut,
    Encoding,
    EngineChoice,
    MediaInfo,
    Transcript,
)
from tnfd.ports.queue import (
    Lease,
)
from tnfd.store import jobs, leases, records

_SILENCE = records.dump(ChunkResult(""))


def save_media(connection: sqlite3.Connection, lease: Lease, media: MediaInfo, now: float) -> None:
    """Store what probing found."""
    leases.hold(connection, lease)
    connection.execute(
        "UPDATE transcription SET media = ? WHERE id = ?", (records.dump(media), lease.transcription.id)
    )
    jobs.touch(connection, lease.job.id, now)


def restart_cuts(connection: sqlite3.Connection, lease: Lease, encoding: Encoding) -> None:
    """Drop what was not answered of a plan: another kind of engine takes other files."""
    leases.hold(connection, lease)
    number = lease.transcription.id
    connection.execute("DELETE FROM chunk WHERE transcription = ? AND result IS NULL", (number,))
    connection.execute(
        "UPDATE transcription SET encoding = ?, cuts_complete = 0, samples = NULL, max_s = NULL WHERE id = ?",
        (encoding, number),
    )


def save_cut(connection: sqlite3.Connection, lease: Lease, cut: Cut) -> None:
    """Add a row to the plan, or say how it is encoded now; silence needs no answer."""
    leases.hold(connection, lease)
    connection.execute(
        "INSERT INTO chunk (transcription, idx, start_sample, end_sample, file, size_bytes, torn, silent,"
        " result) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (transcription, idx)"
        " DO UPDATE SET file = excluded.file, size_bytes = excluded.size_bytes WHERE chunk.result IS NULL",
        (
            lease.transcription.id, cut.index, cut.start_sample, cut.end_sample, cut.file, cut.size_bytes,
            cut.torn_start + 2 * cut.torn_end, cut.silent, _SILENCE if cut.silent else None,
        ),
    )  # fmt: skip


def split_cuts(connection: sqlite3.Connection, lease: Lease, indexes: Collection[int], max_s: float) -> None:
    """Drop rows without answer that are too long; what they covered is owed in shorter ones."""
    leases.hold(connection, lease)
    number = lease.transcription.id
    connection.execute(
        f"DELETE FROM chunk WHERE transcription = ? AND result IS NULL AND idx IN ({records.marks(indexes)})",
        (number, *indexes),
    )
    connection.execute(
        "UPDATE transcription SET max_s = min(coalesce(max_s, ?), ?) WHERE id = ?", (max_s, max_s, number)
    )


def lose_chunk(connection: sqlite3.Connection, lease: Lease, index: int, code: str, now: float) -> None:
    """Give a row up: it becomes a gap, until somebody asks for it again."""
    leases.hold(connection, lease)
    connection.execute(
        "UPDATE chunk SET error = ? WHERE transcription = ? AND idx = ? AND result IS NULL",
        (code, lease.transcription.id, index),
    )
    jobs.note(connection, lease.job.id, now, "gap", code)
    jobs.touch(connection, lease.job.id, now)


def finish_cuts(
    connection: sqlite3.Connection, lease: Lease, samples: int, bad_packets: int, now: float
) -> None:
    """The plan is whole."""
    leases.hold(connection, lease)
    connection.execute(
        "UPDATE transcription SET cuts_complete = 1, samples = ?, bad_packets = ? WHERE id = ?",
        (samples, bad_packets, lease.transcription.id),
    )
    jobs.touch(connection, lease.job.id, now)


def save_chunk(
    connection: sqlite3.Connection,
    lease: Lease,
    index: int,
    engine: EngineChoice,
    result: ChunkResult,
    uploaded_bytes: int,
    cost_usd: float,
    audio_s: float,
    now: float,
) -> None:
    """Store an answer and its price."""
    leases.hold(connection, lease)
    number = lease.transcription.id
    connection.execute(
        "UPDATE chunk SET result = ?, engine = ?, answered_at = ?, error = NULL"
        " WHERE transcription = ? AND idx = ?",
        (records.dump(result), records.dump(engine), now, number, index),
    )
    connection.execute(
        "UPDATE transcription SET engine_why = CASE WHEN engine IS NULL"
        "  THEN (SELECT engine_why FROM job WHERE id = ?1) ELSE engine_why END,"
        " engine = ?2, requests = requests + 1, uploaded_bytes = uploaded_bytes + ?3,"
        " cost_usd = cost_usd + ?4, audio_s = audio_s + ?5 WHERE id = ?6",
        (lease.job.id, records.dump(engine), uploaded_bytes, cost_usd, audio_s, number),
    )
    jobs.touch(connection, lease.job.id, now)


def save_heard(
    connection: sqlite3.Connection, lease: Lease, index: int, result: ChunkResult, now: float
) -> None:
    """Put a better known answer in the place of one that is stored."""
    leases.hold(connection, lease)
    connection.execute(
        "UPDATE chunk SET result = ? WHERE transcription = ? AND idx = ? AND result IS NOT NULL",
        (records.dump(result), lease.transcription.id, index),
    )
    jobs.touch(connection, lease.job.id, now)


def save_transcript(connection: sqlite3.Connection, lease: Lease, transcript: Transcript, now: float) -> None:
    """The text is whole: from here on nothing is ever paid for it again."""
    leases.hold(connection, lease)
    connection.execute(
        "UPDATE transcription SET transcript = ?, summary = ?, state = ?, finished_at = ? WHERE id = ?",
        (
            records.dump(transcript),
            records.dump(replace(transcript, text="", segments=())),
            "partial" if transcript.gaps else "done",
            now,
            lease.transcription.id,
        ),
    )
