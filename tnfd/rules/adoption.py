"""Whether the work that a status file tells of counts as done. Pure; ``rules.adopt`` reads such files.

Anybody who may write into the inbox may have written it. So it can at most make its own recording be passed
by: it must tell of this very content, its outputs must lie there as it says, under names that tnfd would give
to them, and what it says is believed for one job alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice

from tnfd.model import Adoption, JobSettings, JobState, OutputFile
from tnfd.rules.adopt import ForeignStatus
from tnfd.rules.formats import RENDERERS
from tnfd.rules.names import MAX_NAME_BYTES, candidate_names, edited_names, fold

_TRIED = 10  # collisions of a name that are thought of
_FORMATS = ("{stem}.{ext}", "{stem}.{lang}.{ext}", "{name}.{ext}")  # what another configuration may have said
_DONE = frozenset({JobState.DONE, JobState.PARTIAL, JobState.DUPLICATE})


@dataclass(frozen=True, slots=True)
class Adopt:
    """Nothing need be paid. ``missing`` formats can be rendered from the transcript in the json output."""

    state: JobState
    outputs: tuple[OutputFile, ...]
    missing: tuple[str, ...]


def plausible_outputs(
    status: ForeignStatus,
    settings: JobSettings,
    *,
    source_name: bytes,
    size_bytes: int,
    sha256: str,
    limit: int = MAX_NAME_BYTES,
) -> tuple[OutputFile, ...] | None:
    """Outputs that are worth reading back; None: the file does not tell of this recording's finished work."""
    if status.state not in _DONE or (status.sha256, status.source_size_bytes) != (sha256, size_bytes):
        return None
    languages = (*status.languages[:1], None)
    return tuple(
        output
        for output in status.outputs
        if output.format in RENDERERS
        and fold(output.name)
        in set(_possible(source_name, output.format, settings.name_format, languages, sha256, limit))
    )


def decide_adoption(
    status: ForeignStatus, settings: JobSettings, outputs: Collection[OutputFile], intact: Collection[str]
) -> Adopt | None:
    """Say whether to adopt; ``intact`` are the formats of those ``outputs`` that are on disk as told."""
    found = tuple(output for output in outputs if output.format in intact)
    missing = tuple(name for name in settings.formats if name not in intact)
    if not missing or "json" in intact:
        state = JobState.PARTIAL if status.state is JobState.PARTIAL else JobState.DONE
        return Adopt(state, found, missing)
    # A copy that was left without outputs on purpose.
    skipped = status.state is JobState.DUPLICATE and not status.outputs and settings.on_duplicate == "skip"
    return Adopt(JobState.DUPLICATE, (), ()) if skipped else None


def is_at_work(status: ForeignStatus, *, sha256: str, instance: str) -> bool:
    """Whether the tnfd of another machine is transcribing this very content, as far as its file says."""
    return status.state is JobState.RUNNING and status.sha256 == sha256 and status.instance != instance


def speaks_for_another(status: ForeignStatus, *, sha256: str, instance: str) -> bool:
    """Whether a status file tells of what another machine does or has done with this very content."""
    done = status.state in _DONE and status.sha256 == sha256 and status.instance != instance
    return done or is_at_work(status, sha256=sha256, instance=instance)


def adoption_of(status: ForeignStatus) -> Adoption:
    """What the job shows of it."""
    return Adoption(
        status.instance,
        status.job,
        status.media,
        status.engine,
        status.timestamps,
        status.languages,
        status.gaps,
    )


def _possible(
    source_name: bytes,
    format: str,
    name_format: str,
    languages: tuple[str | None, ...],
    sha256: str,
    limit: int,
) -> Iterator[str]:
    """Folded names that tnfd may have given to an output."""
    for form in (name_format, *_FORMATS):
        for language in languages:
            names = candidate_names(source_name, format, form, language, sha256, limit=limit)
            for position, name in enumerate(islice(names, _TRIED)):
                yield fold(name)
                if position < 2:
                    for other in islice(edited_names(name, source_name, sha256, limit=limit), _TRIED):
                        yield fold(other)
