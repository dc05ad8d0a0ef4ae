"""Finds recordings that have a transcript which tnfd did not write (``skip_existing_outputs``)."""

from __future__ import annotations

from dataclasses import replace

from tnfd.errors import Fault
from tnfd.pipeline.files import FileThreads, Place, place_for
from tnfd.ports.claims import Found, Origin
from tnfd.ports.outputs import Outputs
from tnfd.ports.store import IntakeStore
from tnfd.rules.adopt import MAX_STATUS_BYTES, parse_status
from tnfd.rules.existing import transcripts_of
from tnfd.rules.names import fold, status_name


class ExistingTranscripts:
    """Looks where the outputs would go."""

    def __init__(self, store: IntakeStore, outputs: Outputs, files: FileThreads) -> None:
        self._store = store
        self._outputs = outputs
        self._files = files

    async def of(self, origin: Origin, found: Found) -> str:
        """Return the (folded) name of a foreign transcript of a finished file; empty: there is none."""
        place = replace(place_for(found.ref, origin.settings), create=False)
        try:
            names = await self._files.run(place.root, self._look, place, origin, found)
        except Fault:
            return ""  # there is no such folder, or nobody can say what is in it
        ours = await self._store.reserved(place.path, names) if names else frozenset[str]()
        return next((name for name in names if name not in ours), "")

    def _look(self, place: Place, origin: Origin, found: Found) -> tuple[str, ...]:
        settings = origin.settings
        with place.open() as fd:
            limit = self._outputs.name_limit(fd)
            taken = self._outputs.taken(fd)
            names = transcripts_of(found.ref.name, taken, settings.formats, settings.name_format, limit=limit)
            own = self._own(fd, found, limit) if names else frozenset[str]()
        return tuple(name for name in names if name not in own)

    def _own(self, fd: int, found: Found, limit: int) -> frozenset[str]:
        """Outputs that a tnfd wrote which this one does not know: adopting them is another matter."""
        data = self._outputs.read(fd, status_name(found.ref.name, limit=limit), max_bytes=MAX_STATUS_BYTES)
        status = None if data is None else parse_status(data)
        if status is None or status.sha256 != found.sha256:
            return frozenset()
        return frozenset(
            fold(one.name) for one in status.outputs if self._outputs.digest(fd, one.name) == one.sha256
        )
