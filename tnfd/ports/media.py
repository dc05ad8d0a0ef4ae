"""Opening recordings: probing, decoding, encoding; always in a child process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tnfd.model import Cut, Encoding, MediaInfo


@dataclass(frozen=True, slots=True)
class PrepareRequest:
    """How to prepare one recording.

    Encoded cuts are written into ``scratch`` (an existing folder) as whole files, never overwriting.
    A piece holds at most ``max_bytes`` and ``max_s`` seconds.
    """

    scratch: Path
    encoding: Encoding
    max_bytes: int
    max_s: float
    audio_languages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probed:
    """First event: what the file is."""

    media: MediaInfo


@dataclass(frozen=True, slots=True)
class Decoded:
    """Last event: how much audio there really was, and how many packets could not be decoded."""

    samples: int  # at 16 kHz
    bad_packets: int


MediaEvent = Probed | Cut | Decoded


class Media(Protocol):
    """Opens recordings."""

    def prepare(
        self, source_fd: int, request: PrepareRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[MediaEvent]]:
        """Decode the open file ``source_fd`` and encode it in cuts.

        Yields one Probed, then each Cut as soon as its file is whole, then one Decoded.
        An audio stream without any sample yields no Cut. The caller keeps ownership of ``source_fd``.
        Leaving the context early ends the child.

        Raises (while iterating):
            Fault: ``media.*``; ``output.disk_full`` where the scratch folder is full.
        """
        ...
