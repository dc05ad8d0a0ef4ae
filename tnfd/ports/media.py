"""Opening recordings: probing, decoding, cutting, encoding; always in a child process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tnfd.model import Cut, Encoding, MediaInfo
from tnfd.rules.cuts import Limits, Stretch


@dataclass(frozen=True, slots=True)
class PrepareRequest:
    """How to prepare one recording, or what of it is still owed.

    Encoded cuts are written into ``scratch`` (an existing folder) as whole files. ``wanted`` are cuts that
    are known and are encoded (again), each into the file that it names. ``stretches`` are cut within
    ``limits``, by default all of it; their cuts are numbered from ``next_index`` on. No file holds more than
    ``max_bytes``. ``by_channel``: the recording counts as its channels one after the other, each as long as
    the whole.
    """

    scratch: Path
    encoding: Encoding
    max_bytes: int
    limits: Limits
    audio_languages: tuple[str, ...] = ()
    wanted: tuple[Cut, ...] = ()
    stretches: tuple[Stretch, ...] = (Stretch(0, None),)
    next_index: int = 0
    by_channel: bool = False


@dataclass(frozen=True, slots=True)
class Probed:
    """First event: what the file is."""

    media: MediaInfo


@dataclass(frozen=True, slots=True)
class Decoded:
    """Last event: how much audio was decoded, and how many packets could not be.

    That is all there is in the recording where a stretch without an end was asked for.
    """

    samples: int  # at 16 kHz
    bad_packets: int


MediaEvent = Probed | Cut | Decoded


class Media(Protocol):
    """Opens recordings."""

    def prepare(
        self, source_fd: int, request: PrepareRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[MediaEvent]]:
        """Decode the open file ``source_fd`` from its start and encode what is asked for.

        Yields one Probed, then each Cut as soon as its file is whole, then one Decoded. Behind a Cut nothing
        more is decoded until the next event is asked for. An audio stream without any sample yields no Cut.
        The caller keeps ownership of ``source_fd``. Leaving the context early ends the child.

        Raises (while iterating):
            Fault: ``media.*``; ``output.disk_full`` where the scratch folder is full.
        """
        ...
