"""The embedded engine: pocketsphinx in a child process. English, draft quality, no key, no network.

Owns its child (``child.py``): what is asked, how long it may take, what the answer means. Never
imports pocketsphinx, which would hold the interpreter's lock of the whole daemon while it decodes.
"""

from __future__ import annotations

import os
from typing import Self

from tnfd.engines import sphinx_child
from tnfd.engines.child import Child, ChildOptions
from tnfd.errors import Fault
from tnfd.libraries import install_command, is_installed, library_of
from tnfd.model import ChunkResult, Segment, Word
from tnfd.ports.engine import Capabilities, EngineChunk, Hints
from tnfd.rules.faults import clean

_MAX_S = 4 * 3600.0
_START_S = 60.0  # to start and load the model (1 s when measured) on a busy machine
_REAL_TIMES = 5.0  # 0.32 of real time was measured; fifteen times that is a hang

_LIMIT_BYTES = 2 * 1024**3  # of memory; 309 MB resident was measured


class SphinxEngine:
    """pocketsphinx (see ``ports.Engine``). One child, one request at a time; more wait for their turn.

    The child ends after ``idle_s`` seconds without work. ``timeout_s`` bounds one request; 0 grows with the
    audio's length.
    """

    type = "sphinx"
    model = "en-us"

    def __init__(
        self, name: str = "sphinx", *, max_concurrency: int = 0, timeout_s: float = 0.0, idle_s: float = 60.0
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            encoding="pcm",
            max_bytes=round(_MAX_S * 2 * sphinx_child.RATE_HZ),
            max_s=_MAX_S,
            timestamps=True,
            max_concurrency=max_concurrency or 1,
            usd_per_minute=0.0,
            draft=True,
            only_languages=("en",),
            uploads=False,
        )
        self._timeout_s = timeout_s
        self._child = Child(sphinx_child, ChildOptions(idle_s=idle_s, memory_bytes=_LIMIT_BYTES))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._child.close()

    @property
    def child_pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._child.pid

    async def warm(self) -> None:
        """Nothing: the child loads its model while it is fed (see ``ports.Engine``)."""

    async def transcribe(self, chunk: EngineChunk, hints: Hints) -> ChunkResult:
        """Transcribe one cut of raw s16le, 16 kHz mono (see ``ports.Engine``). Cancellation kills the child.

        Raises:
            Fault: ``engine.not_installed``, ``engine.language``, ``engine.timeout``, or
                ``engine.crashed``, also where the child could not work with the file.
        """
        if chunk.encoding != "pcm":
            raise ValueError(f"this engine takes pcm, not {chunk.encoding}")
        if hints.languages and not any(_is_english(language) for language in hints.languages):
            raise Fault("engine.language", f"{', '.join(hints.languages)}; this engine speaks English")
        if not is_installed(self.type):
            hint = f"Run: {install_command(self.type)}; then restart tnfd."
            raise Fault("engine.not_installed", library_of(self.type), hint=hint)
        request = {"path": os.fsencode(chunk.path).hex()}
        limit_s = self._timeout_s or _START_S + _REAL_TIMES * chunk.duration_s
        answer = await self._child.ask(request, limit_s=limit_s)
        if "error" in answer:
            raise Fault("engine.crashed", clean(str(answer["error"])))
        return _result(answer["utterances"])


def _is_english(language: str) -> bool:
    return language.lower().partition("-")[0] in ("en", "eng", "english")


def _result(utterances: list[list[tuple[float, float, str]]]) -> ChunkResult:
    segments = []
    for utterance in utterances:
        words = tuple(Word(start_s, end_s, text) for start_s, end_s, text in utterance)
        text = " ".join(word.text for word in words)
        segments.append(Segment(words[0].start_s, words[-1].end_s, text, None, words))
    return ChunkResult(
        text=" ".join(segment.text for segment in segments),
        segments=tuple(segments),
        languages=("en",) if segments else (),
        timestamps="engine" if segments else "none",
        flags=() if segments else ("no_speech",),
    )
