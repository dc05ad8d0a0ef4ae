"""The embedded engine: pocketsphinx in a child process. English, draft quality, no key, no network.

Owns the child: started at the first request, started again after a crash, ended by itself when idle. Never
imports pocketsphinx, which would hold the interpreter's lock of the whole daemon while it decodes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from typing import IO, Any, Self

from tnfd.engines import sphinx_child
from tnfd.errors import Fault
from tnfd.libraries import install_command, is_installed, library_of
from tnfd.model import ChunkResult, Segment, Word
from tnfd.ports.engine import Capabilities, EngineChunk, Hints
from tnfd.rules.faults import clean

_MAX_S = 4 * 3600.0
_START_S = 60.0  # to start and load the model (1 s when measured) on a busy machine
_REAL_TIMES = 5.0  # 0.32 of real time was measured; fifteen times that is a hang

# What the child needs of the environment: where Python finds its packages.
_ENVIRONMENT = ("PATH", "HOME", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "LD_LIBRARY_PATH", "TMPDIR")


class _Ended(Exception):
    """The child is gone; ``detail`` is the end of what it wrote to stderr."""

    def __init__(self, returncode: int, detail: str) -> None:
        self.returncode = returncode
        self.detail = detail
        super().__init__(detail)


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
        self._idle_s = idle_s
        self._turn = asyncio.Lock()
        self._child: Process | None = None
        self._stderr: IO[bytes] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closed = True
        if self._child is not None:
            _kill(self._child)  # whoever still waits for its answer gets a fault now
        async with self._turn:
            await self._end()

    @property
    def child_pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._child.pid if self._child is not None and self._child.returncode is None else None

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
        async with self._turn:
            answer = await self._ask(request, limit_s)
        if "error" in answer:
            raise Fault("engine.crashed", clean(str(answer["error"])))
        return _result(answer["utterances"])

    async def _ask(self, request: dict[str, Any], limit_s: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(limit_s):
                try:
                    return await self._exchange(request)
                except _Ended as ended:
                    if ended.returncode != 0:
                        raise
                    # It was idle and ended by itself, just as the request came.
                    return await self._exchange(request)
        except TimeoutError:
            await self._end()
            raise Fault("engine.timeout", f"not done within {limit_s:.4g} s") from None
        except _Ended as ended:
            raise Fault("engine.crashed", _story(ended)) from None
        except OSError as error:
            raise Fault("engine.crashed", f"it cannot be started: {error.strerror}") from None
        except BaseException:
            await self._end()
            raise

    async def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one frame and read one.

        Raises:
            _Ended: the child ended instead.
        """
        child = await self._started()
        stdin, stdout = child.stdin, child.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the child has no pipes")
        try:
            body = json.dumps(request).encode()
            stdin.write(struct.pack(">I", len(body)) + body)
            await stdin.drain()
            (length,) = struct.unpack(">I", await stdout.readexactly(4))
            answer: dict[str, Any] = json.loads(await stdout.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            returncode = await child.wait()
            detail = self._said()
            await self._end()
            raise _Ended(returncode, detail) from None
        return answer

    async def _started(self) -> Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        if self._closed:
            raise RuntimeError("the engine is closed")
        await self._end()
        # A file instead of a pipe: nobody needs to read it along, and the child limits its length.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the child
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # by its file, and without that file's folder on the path: it would shadow ``openai``
            sphinx_child.__file__,
            str(self._idle_s),
            str(os.getpid()),
            stdin=PIPE,
            stdout=PIPE,
            stderr=self._stderr,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            cwd="/",
            start_new_session=True,  # Ctrl-C in a terminal is for the parent to handle
        )
        return self._child

    async def _end(self) -> None:
        """Kill the child if there is one and wait until it is gone."""
        child, self._child = self._child, None
        stderr, self._stderr = self._stderr, None
        if stderr is not None:
            stderr.close()
        if child is None:
            return
        _kill(child)
        if child.stdin is not None:
            child.stdin.close()
        await child.wait()

    def _said(self) -> str:
        if self._stderr is None:
            return ""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - 2000))
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return clean(lines[-1]) if lines else ""


def _kill(child: Process) -> None:
    # Not by Process.kill(): it looks for the exit status first, and takes it from whoever waits for it
    # (subprocess.Popen.send_signal polls; asyncio then warns of an unknown child process).
    if child.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)


def _is_english(language: str) -> bool:
    return language.lower().partition("-")[0] in ("en", "eng", "english")


def _story(ended: _Ended) -> str:
    how = f"signal {-ended.returncode}" if ended.returncode < 0 else f"exit {ended.returncode}"
    return f"{how}: {ended.detail}" if ended.detail else how


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
