"""The parent's side of an engine's process: started when needed, again after a crash, killed when stuck.

Owns the process and its turn: one request at a time, others wait. Knows nothing of what is asked; the other
side of the pipe is ``child_host.py``.
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
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import IO, Any

from tnfd.engines import child_host
from tnfd.errors import Fault
from tnfd.rules.faults import clean

# What every child needs of the environment: where Python finds its packages.
_ENVIRONMENT = ("PATH", "HOME", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "LD_LIBRARY_PATH", "TMPDIR")
_FILE_BYTES = 1024 * 1024  # what stderr may fill

News = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class ChildOptions:
    """``memory_bytes`` and ``file_bytes`` 0: no limit. ``pass_on``: more names of variables to hand down."""

    idle_s: float = 60.0
    memory_bytes: int = 0
    file_bytes: int = _FILE_BYTES
    pass_on: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class _Ended(Exception):
    """The child is gone; ``detail`` is the end of what it wrote to stderr."""

    def __init__(self, returncode: int, detail: str) -> None:
        self.returncode = returncode
        self.detail = detail
        super().__init__(detail)


class Child:
    """One process that runs ``worker``, a module with ``open_worker`` (see ``child_host``)."""

    def __init__(self, worker: ModuleType, options: ChildOptions) -> None:
        self._worker = str(worker.__file__)
        self._options = options
        self._turn = asyncio.Lock()
        self._process: Process | None = None
        self._stderr: IO[bytes] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process id; None while there is none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def busy(self) -> bool:
        """Whether somebody has the turn."""
        return self._turn.locked()

    async def close(self) -> None:
        """End it for good; whoever still waits for an answer gets a fault."""
        self._closed = True
        if self._process is not None:
            _kill(self._process)
        async with self._turn:
            await self._end()

    async def ask(
        self, request: dict[str, Any], *, limit_s: float, news: News | None = None
    ) -> dict[str, Any]:
        """Send one request, return its answer; ``limit_s`` bounds each silence. Cancellation kills the child.

        Raises:
            Fault: ``engine.timeout``; ``engine.crashed`` where the process ended or cannot be started.
        """
        async with self._turn:
            try:
                try:
                    return await self._exchange(request, limit_s, news)
                except _Ended as ended:
                    if ended.returncode != 0:
                        raise
                    # It was idle and ended by itself, just as the request came.
                    return await self._exchange(request, limit_s, news)
            except TimeoutError:
                await self._end()
                raise Fault("engine.timeout", f"nothing came for {limit_s:.4g} s") from None
            except _Ended as ended:
                raise Fault("engine.crashed", _story(ended)) from None
            except OSError as error:
                raise Fault("engine.crashed", f"it cannot be started: {error.strerror}") from None
            except BaseException:
                await self._end()
                raise

    async def _exchange(self, request: dict[str, Any], limit_s: float, news: News | None) -> dict[str, Any]:
        """Send one frame and read up to the answer.

        Raises:
            _Ended: the child ended instead.
        """
        process = await self._started()
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the child has no pipes")
        try:
            body = json.dumps(request).encode()
            stdin.write(struct.pack(">I", len(body)) + body)
            await stdin.drain()
            while True:
                async with asyncio.timeout(limit_s):
                    (length,) = struct.unpack(">I", await stdout.readexactly(4))
                    answer: dict[str, Any] = json.loads(await stdout.readexactly(length))
                if "news" not in answer:
                    return answer
                if news is not None:
                    news(answer["news"])
        except (asyncio.IncompleteReadError, ConnectionError):
            returncode = await process.wait()
            detail = self._said()
            await self._end()
            raise _Ended(returncode, detail) from None

    async def _started(self) -> Process:
        if self.pid is not None and self._process is not None:
            return self._process
        if self._closed:
            raise RuntimeError("the engine is closed")
        await self._end()
        options = self._options
        # A file instead of a pipe: nobody needs to read it along, and the child limits its length.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the child
        passed = {name: os.environ[name] for name in (*_ENVIRONMENT, *options.pass_on) if name in os.environ}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # by its file, and without that file's folder on the path: it would shadow ``openai``
            child_host.__file__,
            self._worker,
            str(options.idle_s),
            str(os.getpid()),
            str(options.memory_bytes),
            str(options.file_bytes),
            stdin=PIPE,
            stdout=PIPE,
            stderr=self._stderr,
            env={**passed, **options.environment},
            cwd="/",
            start_new_session=True,  # Ctrl-C in a terminal is for the parent to handle
        )
        return self._process

    async def _end(self) -> None:
        """Kill the child if there is one and wait until it is gone."""
        process, self._process = self._process, None
        stderr, self._stderr = self._stderr, None
        if stderr is not None:
            stderr.close()
        if process is None:
            return
        _kill(process)
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()

    def _said(self) -> str:
        if self._stderr is None:
            return ""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - 2000))
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return clean(lines[-1]) if lines else ""


def _kill(process: Process) -> None:
    # Not by Process.kill(): it looks for the exit status first, and takes it from whoever waits for it
    # (subprocess.Popen.send_signal polls; asyncio then warns of an unknown child process).
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _story(ended: _Ended) -> str:
    how = f"signal {-ended.returncode}" if ended.returncode < 0 else f"exit {ended.returncode}"
    return f"{how}: {ended.detail}" if ended.detail else how
