"""A real local HTTP server that speaks the transcription API, for tests, benchmarks and kill tests.

Owns its sockets and its records of what was asked. It transcribes nothing: the text is made from the upload's
hash. Also a process: ``python -m tnfd.testing.api_server --latency 2 --per-audio 0.1 --log requests.jsonl``.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import multiprocessing
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from tnfd.clock import SystemClock
from tnfd.ports.clock import Clock
from tnfd.testing import hearing, http
from tnfd.testing.behaviours import RATE_LIMITED, SERVER_ERROR, Behaviour, Hang, Ok, Reset, Status, from_json
from tnfd.testing.limit import RateLimit
from tnfd.testing.records import Load, Request
from tnfd.testing.turn import MODEL_FORMATS, Turn
from tnfd.testing.upload import BadUpload, Upload

ROUTE = "/v1/audio/transcriptions"


def _poisoned_by(length_s: float | None) -> Chooser | None:
    if length_s is None:
        return None
    return lambda request: SERVER_ERROR if abs(request.audio_s - length_s) < 0.25 else None


# The limit's own headers say how long to wait.
REFUSED_FOR_RATE = replace(RATE_LIMITED, headers={})

Chooser = Callable[[Request], Behaviour | Awaitable[Behaviour | None] | None]


class ApiServer:
    """The server; an async context manager. ``url`` includes ``/v1``.

    Each answer takes ``base_s`` + ``per_audio_s`` times the seconds of audio in the upload. More than
    ``most_bytes`` in a request or ``longest_s`` of audio are refused as OpenAI does. With ``listens`` the
    text is what the audio says (``testing.seconds``); hearing it is not counted as time. Behaviours come, in
    this order, from ``script`` (one a request, in the order of arrival), ``every`` (each n-th request),
    ``choose`` (asked once the upload was read; may return None; may be awaited), ``always``; else it is
    ``Ok()``. What ``limit`` does not let in is refused whatever its behaviour would have been.
    """

    def __init__(
        self,
        *,
        base_s: float = 0.0,
        per_audio_s: float = 0.0,
        port: int = 0,
        clock: Clock | None = None,
        log: Path | None = None,
        listens: bool = False,
        keeps: bool = False,
    ) -> None:
        self.base_s = base_s
        self.most_bytes: int | None = None
        self.longest_s: float | None = None
        self._listens = listens
        self._keeps = keeps  # each upload stands in its record
        self._ears: ProcessPoolExecutor | None = None
        self.per_audio_s = per_audio_s
        self.always: Behaviour | None = None
        self.choose: Chooser | None = None
        self.every: tuple[int, Behaviour] | None = None  # each n-th request behaves so
        self.limit: RateLimit | None = None
        # What GET /v1/models lists; None: there is no such route.
        self.models: list[dict[str, Any]] | None = [
            {"id": name, "object": "model", "owned_by": "openai"} for name in MODEL_FORMATS
        ]
        self.server_header = ""
        self.requests: list[Request] = []
        self.load = Load()
        self._port = port
        self._clock = clock or SystemClock()
        self._log = log
        self._script: deque[Behaviour] = deque()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()

    # -- for tests --------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def paid(self) -> int:
        """How many requests were worked on to the end, whether or not the answer arrived."""
        return sum(request.paid for request in self.requests)

    def script(self, *behaviours: Behaviour) -> None:
        """Queue behaviours for the next requests."""
        self._script.extend(behaviours)

    async def until(self, condition: Callable[[ApiServer], bool]) -> None:
        """Return once the condition holds; it is looked at whenever a request makes progress."""
        async with self._changed:
            await self._changed.wait_for(lambda: condition(self))

    def stats(self) -> dict[str, Any]:
        """Counts and load so far."""
        now = self._clock.monotonic()
        first = self.requests[0].started_at if self.requests else now
        outcomes = [request.outcome for request in self.requests]
        return {
            "requests": len(self.requests),
            "paid": self.paid,
            "in_flight": self.load.current,
            "peak": self.load.peak,
            "span_s": now - first,
            "busy_slot_s": self.load.busy_slot_s(first, now),
            "file_bytes": sum(request.file_bytes for request in self.requests),
            "audio_s": sum(request.audio_s for request in self.requests),
            "outcomes": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
            "distinct_uploads": len({request.sha256 for request in self.requests if request.sha256}),
        }

    def control(self, order: dict[str, Any]) -> None:
        """Change what there is to change.

        ``base_s``, ``per_audio_s``, ``most_bytes``, ``longest_s``, ``script``, ``always``, ``every``,
        ``limit`` (fields of RateLimit), ``poison`` (seconds: recordings of this length, give or take a
        quarter, always get a 500).

        Raises:
            ValueError, TypeError: a behaviour or the limit cannot be read.
        """
        limit = RateLimit(**order["limit"]) if order.get("limit") else None
        script = [from_json(value) for value in order.get("script", [])]
        always = from_json(order["always"]) if order.get("always") is not None else None
        every = (int(order["every"][0]), from_json(order["every"][1])) if order.get("every") else None
        self.base_s = float(order.get("base_s", self.base_s))
        self.most_bytes = order.get("most_bytes", self.most_bytes)
        self.longest_s = order.get("longest_s", self.longest_s)
        self.per_audio_s = float(order.get("per_audio_s", self.per_audio_s))
        self._script.extend(script)
        if "always" in order:
            self.always = always
        if "every" in order:
            self.every = every
        if "poison" in order:
            self.choose = _poisoned_by(order["poison"])
        if "limit" in order:
            self.limit = limit
            if limit is not None:
                limit.start(self._clock.monotonic())

    # -- the server -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._listens:
            # Spawned: a forked one would hold the sockets.
            spawn = multiprocessing.get_context("spawn")
            self._ears = ProcessPoolExecutor(1, mp_context=spawn, initializer=hearing.start)
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        if self._server is not None:
            await self._server.wait_closed()
        if self._ears is not None:
            await asyncio.to_thread(self._ears.shutdown, cancel_futures=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: in 3.11 the streams report a cancelled handler of theirs as an unhandled error.
        task = asyncio.get_running_loop().create_task(self._converse(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await http.read_head(reader)) is not None:
                if not await self._serve(head, reader, writer):
                    break
        except (http.BadRequest, asyncio.IncompleteReadError, ConnectionError):
            pass  # clients may break off at any time
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(
        self, head: http.Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; False ends the connection."""
        path = head.path.partition("?")[0]
        if head.method == "POST" and path == ROUTE:
            return await self._transcriptions(head, reader, writer)
        body = b"".join([block async for block in http.read_body(reader, head)])
        status, answer = self._side_door(head.method, path, body)
        named = {"server": self.server_header} if self.server_header else {}
        http.answer(writer, status, json.dumps(answer).encode(), "application/json", named)
        await writer.drain()
        return True

    def _side_door(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if (method, path) == ("GET", "/v1/models"):
            if self.models is not None:
                return 200, {"object": "list", "data": self.models}
            return 404, {"error": {"message": "not found"}}
        if (method, path) == ("GET", "/stats"):
            return 200, self.stats()
        if (method, path) == ("POST", "/control"):
            try:
                self.control(json.loads(body))
            except (ValueError, TypeError, KeyError, IndexError) as error:
                return 400, {"error": {"message": str(error)}}
            return 200, {"ok": True}
        return 404, {"error": {"message": f"Invalid URL ({method} {path})", "type": "invalid_request_error"}}

    async def _transcriptions(
        self, head: http.Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        request = Request(
            id=len(self.requests) + 1,
            path=head.path,
            authorization=head.headers.get("authorization", ""),
            headers=head.headers,
            started_at=self._clock.monotonic(),
        )
        self.requests.append(request)
        self.load.change(request.started_at, +1)
        await self._tell()
        try:
            admitted, headers = (True, {}) if self.limit is None else self.limit.ask(request.started_at)
            turn = Turn(request, reader, writer, self._clock, self._latency_s, headers)
            behaviour = self._scripted(request) if admitted else REFUSED_FOR_RATE
            if await self._early(behaviour, turn, head, reader):
                return False
            if not await self._receive(head, reader, request):
                behaviour = Status(400, message="the form is broken")
            request.received_at = self._clock.monotonic()
            await self._tell()
            if behaviour is None:
                behaviour = self._refusal(head, request)
            if behaviour is None:
                behaviour = await self._chosen(request) or self.always or Ok()
            return await turn.act(behaviour)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            request.outcome = "gone" if request.outcome == "open" else request.outcome
            raise
        finally:
            self.load.change(self._clock.monotonic(), -1)
            self._write_log(request)
            await self._tell()

    def _refusal(self, head: http.Head, request: Request) -> Behaviour | None:
        if self.most_bytes is not None and int(head.headers.get("content-length", "0")) > self.most_bytes:
            return Status(413, message=f"Maximum content size limit ({self.most_bytes}) exceeded")
        if self.longest_s is not None and request.audio_s > self.longest_s:
            message = (
                f"audio duration {request.audio_s:.1f} seconds is longer than {self.longest_s:g} seconds "
            )
            return Status(400, "invalid_value", message=message + "which is the maximum for this model")
        return None

    async def _chosen(self, request: Request) -> Behaviour | None:
        chosen = self.choose(request) if self.choose else None
        return await chosen if inspect.isawaitable(chosen) else chosen

    def _scripted(self, request: Request) -> Behaviour | None:
        if self._script:
            return self._script.popleft()
        if self.every is not None and request.id % self.every[0] == 0:
            return self.every[1]
        return None

    async def _early(
        self, behaviour: Behaviour | None, turn: Turn, head: http.Head, reader: asyncio.StreamReader
    ) -> bool:
        """Act before the upload was read, where the behaviour says so."""
        if isinstance(behaviour, Status) and behaviour.early:
            await turn.act(behaviour)
            return True
        if isinstance(behaviour, Hang) and behaviour.when == "upload":
            await turn.act(behaviour)
            return True
        if isinstance(behaviour, Reset) and behaviour.when == "upload":
            async with contextlib.aclosing(http.read_body(reader, head)) as body:
                await anext(body, b"")
            await turn.act(behaviour)
            return True
        return False

    def _latency_s(self, request: Request) -> float:
        return self.base_s + self.per_audio_s * request.audio_s

    async def _receive(self, head: http.Head, reader: asyncio.StreamReader, request: Request) -> bool:
        try:
            keep = self._listens or self._keeps
            upload: Upload | None = Upload(head.headers.get("content-type", ""), keep=keep)
        except BadUpload:
            upload = None
        async for block in http.read_body(reader, head):
            try:
                if upload is not None:
                    upload.feed(block)
            except BadUpload:
                upload = None
        if upload is None or upload.file_name is None:
            return False
        request.fields = upload.fields
        request.model = upload.fields.get("model", [""])[0]
        request.response_format = upload.fields.get("response_format", ["json"])[0]
        request.file_name = upload.file_name
        request.file_type = upload.file_type
        request.file_bytes = upload.file_bytes
        request.sha256 = upload.sha256
        request.audio_s = upload.audio_s
        if self._keeps and upload.audio is not None:
            request.audio = bytes(upload.audio)
        if self._ears is not None and upload.audio is not None:
            loop = asyncio.get_running_loop()
            request.heard = loop.run_in_executor(self._ears, hearing.answer, bytes(upload.audio))
        return True

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _write_log(self, request: Request) -> None:
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(request.as_json()) + "\n")


if __name__ == "__main__":
    from tnfd.testing.command import main

    main()
