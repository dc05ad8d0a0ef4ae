"""tnfd's own ear: loudness, forced alignment, and stretches of cuts, in a child process (``ear_child``).

Owns its child: what is asked, how long it may take. Never imports PyAV or pocketsphinx.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tnfd.engines import ear_child
from tnfd.engines.child import Child, ChildOptions
from tnfd.errors import Fault
from tnfd.model import Encoding
from tnfd.ports.ear import Span
from tnfd.ports.engine import EngineChunk
from tnfd.rules.faults import clean

_START_S = 60.0  # to start and load the models (0.3 s when measured) on a busy machine
_REAL_TIMES = 1.0  # 0.02 of real time was measured
_MEMORY_BYTES = 2 * 1024**3
_FILE_BYTES = 512 * 1024**2  # a copy of a stretch


class ChildEar:
    """See ``ports.Ear``; an async context manager. One child, one request at a time; ends when idle."""

    def __init__(self, *, idle_s: float = 60.0) -> None:
        options = ChildOptions(idle_s=idle_s, memory_bytes=_MEMORY_BYTES, file_bytes=_FILE_BYTES)
        self._child = Child(ear_child, options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._child.close()

    @property
    def child_pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._child.pid

    async def levels(self, chunk: EngineChunk) -> bytes:
        """See the port."""
        answer = await self._ask(chunk, {"do": "levels"})
        return bytes.fromhex(answer["levels"])

    async def align(
        self, chunk: EngineChunk, words: Sequence[tuple[str, str]], *, start_s: float, end_s: float
    ) -> list[Span | None]:
        """See the port."""
        request = {"do": "align", "words": list(words), "start_s": start_s, "end_s": end_s}
        answer = await self._ask(chunk, request)
        return [None if span is None else (span[0], span[1]) for span in answer["spans"]]

    async def copy(
        self, chunk: EngineChunk, to: Path, *, start_s: float, end_s: float, pad_s: float = 0.0,
        encoding: Encoding | None = None,
    ) -> EngineChunk:  # fmt: skip
        """See the port."""
        request = {"do": "copy", "to": os.fsencode(to).hex(), "start_s": start_s, "end_s": end_s}
        answer = await self._ask(chunk, {**request, "pad_s": pad_s, "into": encoding})
        size_bytes, duration_s = int(answer["size_bytes"]), answer["samples"] / ear_child.RATE_HZ
        return EngineChunk(to, encoding or chunk.encoding, duration_s, size_bytes)

    async def _ask(self, chunk: EngineChunk, request: dict[str, Any]) -> dict[str, Any]:
        request |= {"path": os.fsencode(chunk.path).hex(), "encoding": chunk.encoding}
        limit_s = _START_S + _REAL_TIMES * chunk.duration_s
        answer = await self._child.ask(request, limit_s=limit_s)
        if "error" in answer:
            raise Fault("engine.crashed", clean(str(answer["error"])))
        return answer
