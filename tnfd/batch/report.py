"""What a batch says before and after: estimate, summary, one JSON object (schema tnfd.batch/1). Pure."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from tnfd.batch.board import Board, Item, Result
from tnfd.batch.plan import Estimate, Plan, Price
from tnfd.batch.run import Ending
from tnfd.rules.names import for_terminal, name_base64, printable
from tnfd.rules.status import moment, status_object

SCHEMA = "tnfd.batch/1"

_GOOD = (Result.DONE, Result.DUPLICATE, Result.RENDERED, Result.PARTIAL)
_WORDS = {
    Result.DONE: "transcribed",
    Result.DUPLICATE: "with the text of a file of the same content",
    Result.RENDERED: "written from stored transcripts",
    Result.ADOPTED: "found finished, by another tnfd",
    Result.ALREADY: "done already",
    Result.PARTIAL: "with gaps",
    Result.FAILED: "failed",
    Result.CANCELLED: "cancelled",
    Result.VANISHED: "gone",
    Result.WAITING: "not done yet",
    Result.GROWING: "still being written",
}


def hours(audio_s: float) -> str:
    """A length of audio in the unit that fits: ``3.2 hours``, ``12 minutes``, ``45 seconds``."""
    for unit, span_s in (("hour", 3600.0), ("minute", 60.0)):
        if audio_s >= span_s * (1 if unit == "hour" else 2):
            number = f"{audio_s / span_s:.1f}" if audio_s < 10 * span_s else f"{audio_s / span_s:.0f}"
            number = number.removesuffix(".0")
            return f"{number} {unit}{'' if number == '1' else 's'}"
    return f"{audio_s:.0f} second{'' if round(audio_s) == 1 else 's'}"


def clock(span_s: float) -> str:
    """A span as on a stopwatch: ``0:07``, ``12:45``, ``1:02:03``."""
    whole = round(max(0.0, span_s))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def dollars(usd: float) -> str:
    """``$12.30``; less than a dollar to a tenth of a cent."""
    return f"${usd:.2f}" if usd >= 1 or usd == 0 else f"${usd:.4f}" if usd < 0.01 else f"${usd:.3f}"


def size(size_bytes: int) -> str:
    """``48.2 MB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


# -- before ------------------------------------------------------------------------------------------------


def estimate_lines(found: Estimate, plan: Plan) -> list[str]:
    """What is about to happen."""
    noun = "recording" if found.files == 1 else "recordings"
    line = f"{found.files} {noun}, {size(found.size_bytes)}"
    rest = []
    if found.already:
        rest.append(f"{found.already} done already")
    if found.render:
        rest.append(f"{found.render} only to be written (free)")
    if rest:
        line += f": {', '.join(rest)}, {found.todo} to transcribe"
    lines = [line]
    if found.todo:
        lines += [f"About {hours(found.audio_s)} of audio {_where(price)}" for price in found.engines[:1]]
        lines += [f"and {_where(price)}" for price in found.engines[1:]]
        cost = _cost(found)
        lines.append(f"{cost}; {_pace(plan, found)}" if cost else _pace(plan, found).capitalize())
    for path, reason in plan.ignored[:5]:
        lines.append(f"Left alone: {for_terminal(os.path.basename(path))} ({_IGNORED.get(reason, reason)})")
    if len(plan.ignored) > 5:
        lines.append(f"Left alone: {len(plan.ignored) - 5} more that are no recordings by their names")
    return [*lines, *_left_out(plan)]


def _left_out(plan: Plan) -> Iterator[str]:
    """Folders of which nothing was taken, until somebody mends what is wrong with them."""
    for folder, why in plan.left_out.items():
        yield f"Left out: {_short(folder)} ({why})"


_IGNORED = {
    "not_media": "no recording by its name",
    "hidden": "hidden",
    "temporary": "a temporary file",
    "system": "a file of the system",
}


def _where(price: Price) -> str:
    if price.host:
        return f"to {price.host}" + (f" with {price.model}" if price.model else "")
    return f"on this machine, with {price.name}" + (f" ({price.model})" if price.model else "")


def _cost(found: Estimate) -> str:
    if all(not price.host for price in found.engines):
        return "Free"
    if found.cost_usd:
        about = f"${found.cost_usd:.2f}" if found.cost_usd >= 0.01 else dollars(found.cost_usd)
        return f"About {about} (guessed from the sizes)"
    return ""


def _pace(plan: Plan, found: Estimate) -> str:
    workers = plan.config.daemon.workers
    at_once = min(workers, *(price.max_concurrency for price in found.engines)) if found.engines else workers
    return f"{at_once} at once" if at_once > 1 else "one at a time"


# -- after -------------------------------------------------------------------------------------------------


def summary_lines(plan: Plan, board: Board, ending: Ending) -> list[str]:
    """What happened, where the outputs are, then a line for each file that needs somebody."""
    counts = board.counts
    parts = [f"{counts[result]} {_WORDS[result]}" for result in _WORDS if counts.get(result)]
    took = clock(ending.took_s)
    lines = [", ".join(parts) or "Nothing to do"]
    cost = f", {dollars(board.cost_usd)}" if board.cost_usd else ""
    if board.heard_s and ending.took_s:
        speed = board.heard_s / ending.took_s
        lines.append(f"{hours(board.heard_s)} of audio in {took}, {speed:.0f}x real time{cost}")
    elif cost:
        lines[0] += f", in {took}{cost}"
    lines += list(_places(plan, board))
    for item in board.of(Result.FAILED, Result.PARTIAL, Result.CANCELLED, Result.VANISHED):
        lines += _trouble(item)
    lines += _left_out(plan)
    if ending.halt is not None:
        lines += [ending.halt.text, f"  {ending.halt.hint}"]
    if counts.get(Result.GROWING):
        lines += [f"Still being written: {_path(item)}" for item in board.of(Result.GROWING)]
    if counts.get(Result.WAITING) or counts.get(Result.GROWING):
        lines.append("The same command goes on where this one stopped; nothing is paid twice.")
    return lines


def _places(plan: Plan, board: Board) -> Iterator[str]:
    """Where outputs were written."""
    written: Counter[bytes] = Counter()
    for item in board.of(*_GOOD):
        base = os.fsencode(item.origin.settings.output_dir)
        folder = os.path.dirname(item.ref.rel)
        written[os.path.join(base, folder).rstrip(b"/") if base else os.path.dirname(item.ref.path)] += 1
    formats = dict.fromkeys(name for item in plan.items for name in item.origin.settings.formats)
    if len(written) == 1:
        yield f"Outputs ({', '.join(formats)}): {for_terminal(next(iter(written)))}"
    elif written:
        common = os.path.commonpath(list(written))
        yield f"Outputs ({', '.join(formats)}): {len(written)} folders below {for_terminal(common)}"


def _trouble(item: Item) -> list[str]:
    job = item.final
    if job is not None and job.error is not None:
        head = f"{item.result}: {_path(item)} ({job.error.code})"
        return [head, f"  {job.error.message}", f"  {job.error.hint}"]
    head = f"{item.result}: {_path(item)}"
    if item.result is Result.PARTIAL and job is not None:
        missing = "a stretch is" if len(job.gaps) == 1 else f"{len(job.gaps)} stretches are"
        return [head, f"  {missing} missing; the same command tries them again."]
    return [head, f"  {item.reason}"] if item.reason else [head]


def _path(item: Item) -> str:
    """The path as people would write it: relative where it lies below the working folder."""
    return _short(item.ref.path)


def _short(path: bytes) -> str:
    here = os.fsencode(os.getcwd()).rstrip(b"/") + b"/"
    return for_terminal(path[len(here) :] if path.startswith(here) else path)


# -- for programs ------------------------------------------------------------------------------------------


def batch_object(
    plan: Plan, board: Board, ending: Ending, finished_at: datetime, price: Price | None
) -> dict[str, Any]:
    """The whole of ``batch --json``."""
    counts = {str(result): board.counts.get(result, 0) for result in Result}
    return {
        "schema": SCHEMA,
        "dry_run": False,
        "exit_code": ending.exit_code,
        "interrupted": ending.interrupted,
        "halted": ending.halt and {"reason": ending.halt.text, "hint": ending.halt.hint},
        "started_at": moment(board.started_at or finished_at),
        "finished_at": moment(finished_at),
        "took_s": round(ending.took_s, 3),
        "engine": _engine(price),
        "totals": {
            "files": len(plan.items),
            **counts,
            "audio_s": round(board.heard_s, 3),
            "cost_usd": round(board.cost_usd, 6),
            "requests": board.requests,
            "times_real_time": round(board.heard_s / ending.took_s, 2) if ending.took_s else 0.0,
        },
        "files": [_file(item) for item in sorted(plan.items, key=lambda one: one.ref.path)],
        "ignored": [_named(path) | {"reason": reason} for path, reason in plan.ignored],
        "left_out": [_named(folder) | {"reason": why} for folder, why in plan.left_out.items()],
    }


def dry_object(plan: Plan, found: Estimate, owes: Mapping[int, str]) -> dict[str, Any]:
    """The whole of ``batch --dry-run --json``."""
    return {
        "schema": SCHEMA,
        "dry_run": True,
        "engine": _engine(found.engines[0] if found.engines else None),
        "totals": {
            "files": found.files,
            "already_done": found.already,
            "to_write": found.render,
            "to_transcribe": found.todo,
            "size_bytes": found.size_bytes,
            "audio_s": round(found.audio_s, 1),
            "cost_usd": round(found.cost_usd, 4),
        },
        "files": [
            _named(item.ref.path)
            | {
                "owed": {"already": "nothing", "render": "outputs", "todo": "transcript"}[owes[id(item)]],
                "size_bytes": item.ref.stat.size_bytes,
                "audio_s": round(item.about_s, 1),
            }
            for item in sorted(plan.items, key=lambda one: one.ref.path)
        ],
        "ignored": [_named(path) | {"reason": reason} for path, reason in plan.ignored],
        "left_out": [_named(folder) | {"reason": why} for folder, why in plan.left_out.items()],
    }


def _engine(price: Price | None) -> dict[str, str] | None:
    if price is None:
        return None
    return {"name": price.name, "type": price.type, "model": price.model, "host": price.host}


def _named(path: bytes) -> dict[str, str]:
    encoded = name_base64(path)
    return {"path": printable(path)} | ({} if encoded is None else {"path_base64": encoded})


def _file(item: Item) -> dict[str, Any]:
    head: dict[str, Any] = {
        **_named(item.ref.path),
        "result": str(item.result),
        "reason": item.reason or None,
    }
    if item.final is None:
        return head | {"job": item.job, "state": None}
    shown = status_object(item.final, instance=socket.gethostname(), updated_at=item.final.updated_at)
    return head | {"inbox": item.final.inbox} | shown
