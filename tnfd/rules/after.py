"""What becomes of a recording once its job has ended: kept, moved away, or deleted. Pure.

Deciding "keep" is always right; anything else only where nothing of the recording is needed any more.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from tnfd.model import JobSettings, JobState

# Flags that say nothing against the transcript. Every other one does, also one that is not known yet: with
# a better engine somebody may want to transcribe the recording again.
HARMLESS_FLAGS = frozenset({"conflict_copy"})


@dataclass(frozen=True, slots=True)
class Keep:
    """Leave the recording where it is, and why (a few words, for the job's story)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Move:
    """Move it into this folder (relative to the inbox, the tree below it kept)."""

    folder: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete it; its outputs stay."""


def decide_after(
    settings: JobSettings,
    state: JobState,
    flags: Iterable[str],
    *,
    intact: Collection[str],
    adopted: bool = False,
) -> Keep | Move | Delete:
    """Say what to do with the recording of a job that has ended.

    ``intact`` are the formats of the outputs that were just read back from disk as they were recorded; for a
    copy without outputs of its own (``on_duplicate = "skip"``), those of the original. ``adopted``: another
    tnfd did the work, and all that is known of it is a status file, which anybody may have written.
    """
    if settings.after == "keep":
        return Keep("configured")
    if state is JobState.FAILED:
        return Move(os.fsencode(settings.failed_dir)) if settings.after == "move" else Keep("it failed")
    if state not in (JobState.DONE, JobState.DUPLICATE):
        return Keep(f"it is {state}")
    if said := [flag for flag in flags if flag not in HARMLESS_FLAGS]:
        return Keep(f"flagged {', '.join(said)}")
    if missing := [name for name in settings.formats if name not in intact]:
        return Keep(f"not found as it was written: {', '.join(missing)}")
    if settings.after == "move":
        return Move(os.fsencode(settings.done_dir))
    return Keep("the work of another tnfd") if adopted else Delete()
