"""One request's answer, whatever its behaviour makes of it. Writes to the connection and to the record."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from tnfd.ports.clock import Clock
from tnfd.testing import http
from tnfd.testing.behaviours import Behaviour, Flood, Hang, Ok, Raw, Reset, Status
from tnfd.testing.records import Request

# Which formats the models take; a model that is not listed takes them all.
MODEL_FORMATS: dict[str, tuple[str, ...]] = {
    "gpt-transcribe": ("json",),
    "gpt-4o-transcribe": ("json", "text"),
    "gpt-4o-mini-transcribe": ("json", "text"),
    "gpt-4o-transcribe-diarize": ("json", "text", "diarized_json"),
}
_FORMATS = ("json", "text", "verbose_json")
_FLOOD_BLOCK = b" " * 65536


class Turn:
    """One request and its connection, to be acted on once."""

    def __init__(
        self,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        clock: Clock,
        latency_s: Callable[[Request], float],
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """``headers`` stand beside the behaviour's own on every answer."""
        self._headers = dict(headers)
        self._latency_s = latency_s
        self._request = request
        self._reader = reader
        self._writer = writer
        self._clock = clock

    async def act(self, behaviour: Behaviour) -> bool:
        """Answer; False ends the connection."""
        match behaviour:
            case Ok():
                return await self._ok(behaviour)
            case Status():
                return await self._refuse(behaviour)
            case Raw():
                return await self._raw(behaviour)
            case Flood():
                return await self._flood(behaviour)
            case Hang():
                self._request.outcome = "hang"
                if behaviour.when == "upload":
                    # Nothing is read any more, so that not even the client's farewell is seen.
                    await asyncio.get_running_loop().create_future()
                await http.until_hung_up(self._reader)
                return False
            case Reset():
                self._note("reset", None, paid=behaviour.paid)
                http.reset(self._writer)
                return False

    async def _ok(self, behaviour: Ok) -> bool:
        request = self._request
        formats = MODEL_FORMATS.get(request.model, _FORMATS)
        if request.response_format not in formats:
            said = " or ".join(f"'{name}'" for name in formats)
            message = f"response_format '{request.response_format}' is not compatible with model "
            message += f"'{request.model}'. Use {said} instead."
            return await self._refuse(
                Status(400, "unsupported_value", message=message, param="response_format")
            )
        own = behaviour.delay_s is not None
        await self._clock.sleep(behaviour.delay_s or 0.0 if own else self._latency_s(request))
        heard = None if request.heard is None else await request.heard
        if heard is not None and behaviour.text is None:
            behaviour = replace(behaviour, text=heard["text"], extra={**heard, **behaviour.extra})
        text = f"words of {request.sha256[:8]}" if behaviour.text is None else behaviour.text
        self._note("ok", 200, paid=True)
        headers = {**self._headers, **behaviour.headers}
        if request.response_format == "text":
            http.answer(self._writer, 200, text.encode() + b"\n", "text/plain; charset=utf-8", headers)
        else:
            body = {**_answer(request, text), **behaviour.extra}
            if "word" not in request.fields.get("timestamp_granularities[]", []):
                body.pop("words", None)
            raw = json.dumps(body).encode()
            http.answer(self._writer, 200, raw, "application/json", headers)
        await self._writer.drain()
        return True

    async def _refuse(self, behaviour: Status) -> bool:
        await self._clock.sleep(behaviour.delay_s)
        self._note("refused", behaviour.status, paid=False)
        error = {
            "message": behaviour.message,
            "type": behaviour.type,
            "param": behaviour.param,
            "code": behaviour.code,
        }
        body = json.dumps({"error": error}).encode()
        headers = {**self._headers, **behaviour.headers}
        http.answer(self._writer, behaviour.status, body, "application/json", headers)
        await self._writer.drain()
        return not behaviour.early

    async def _raw(self, behaviour: Raw) -> bool:
        self._note("raw", behaviour.status, paid=behaviour.paid)
        http.answer(
            self._writer,
            behaviour.status,
            behaviour.body,
            behaviour.content_type,
            {**self._headers, **behaviour.headers},
            missing_bytes=behaviour.missing_bytes,
        )
        await self._writer.drain()
        return not behaviour.missing_bytes

    async def _flood(self, behaviour: Flood) -> bool:
        self._note("flood", 200, paid=True)
        size = {"transfer-encoding": "chunked"} if behaviour.chunked else {}
        size = size or {"content-length": str(behaviour.total_bytes)}
        self._writer.write(http.head_of(200, {"content-type": "application/json", **size}))
        left = behaviour.total_bytes
        while left > 0:
            block = _FLOOD_BLOCK[:left]
            left -= len(block)
            framed = b"%x\r\n%b\r\n" % (len(block), block) if behaviour.chunked else block
            self._writer.write(framed)
            await self._writer.drain()
        if behaviour.chunked:
            self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()
        return True

    def _note(self, outcome: str, status: int | None, *, paid: bool) -> None:
        self._request.outcome = outcome
        self._request.status = status
        self._request.paid = paid
        self._request.answered_at = self._clock.monotonic()


def _answer(request: Request, text: str) -> dict[str, Any]:
    body: dict[str, Any] = {"text": text}
    if request.audio_s:
        body["usage"] = {"type": "duration", "seconds": round(request.audio_s, 3)}
    if request.response_format == "diarized_json":
        span_s = request.audio_s or 1.0
        body |= {"task": "transcribe", "duration": span_s, "segments": _diarized(text, span_s)}
        return body
    if request.response_format != "verbose_json":
        return body
    span_s = request.audio_s or 1.0
    words = text.split()
    step_s = span_s / max(len(words), 1)
    body |= {"task": "transcribe", "language": "english", "duration": span_s}
    body["segments"] = [{"id": 0, "start": 0.0, "end": span_s, "text": f" {text}"}] if words else []
    if "word" in request.fields.get("timestamp_granularities[]", []):
        body["words"] = [
            {"word": word, "start": round(index * step_s, 3), "end": round((index + 1) * step_s, 3)}
            for index, word in enumerate(words)
        ]
    return body


def _diarized(text: str, span_s: float) -> list[dict[str, Any]]:
    """Two voices that take turns, sentence by sentence."""
    parts = [part for part in re.split(r"(?<=[.!?])\s+", text) if part]
    step_s = span_s / max(len(parts), 1)
    return [
        {
            "id": f"seg_{n}",
            "type": "transcript.text.segment",
            "speaker": "AB"[n % 2],
            "start": round(n * step_s, 3),
            "end": round((n + 1) * step_s, 3),
            "text": part,
        }
        for n, part in enumerate(parts)
    ]
