"""The engine for OpenAI's transcription API and for every server that speaks it.

Owns what one request carries and what the engine has learned about its server. Never retries, never waits for
the server's patience, never counts: that is for whoever holds the permission to send.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import structlog

from tnfd.clock import SystemClock
from tnfd.engines.answers import NotUnderstood, read_answer
from tnfd.engines.connection import NO_KEY, Connection, Reply
from tnfd.engines.kinds import kind_of, refine
from tnfd.engines.profiles import OPENAI_URL, Profile, profile_for
from tnfd.errors import Fault
from tnfd.model import ChunkResult
from tnfd.ports.clock import Clock
from tnfd.ports.engine import Capabilities, EngineChunk, Hints
from tnfd.rules.faults import Signal, clean, decide_adjustment, fault_of, is_too_short, maximum_s
from tnfd.rules.throttle import Stated

_log = structlog.get_logger("tnfd.engine")

SHORTEST_S = 0.1  # servers refuse less ("is shorter than 0.1 seconds", pipecat#1575)
_SLOWEST_UPLOAD_BYTES_PER_S = 64 * 1024
_RECOGNISE_S = 5.0
_MOST_OF_KIND = 5  # connections, for a kind of server that turns out to take several at once
_PARSE_IN_THREAD_BYTES = 256 * 1024
_UPLOADS = {"opus": ("audio.ogg", "audio/ogg"), "wav": ("audio.wav", "audio/wav")}
_SMALLEST_LEARNED_S = 20.0  # a server that claims to take less than this is not believed


@dataclass(frozen=True, slots=True)
class _Request:
    """One request's form fields, and which options a server may object to."""

    fields: dict[str, Any]
    sent: frozenset[str]


class OpenAIEngine:
    """An engine behind HTTP (see ``ports.Engine``).

    ``base_url`` includes ``/v1``; empty is OpenAI's own (the environment is not looked at). ``api_key`` is
    asked before each request, so that a key put in place later is found; None means there is none.
    ``max_concurrency``, ``timeout_s`` 0 and ``price_usd_per_minute`` below 0: what is known of the
    server, or what ``profile`` says of it.
    """

    type = "openai"

    def __init__(
        self,
        name: str,
        model: str,
        base_url: str,
        api_key: Callable[[], str | None],
        *,
        max_concurrency: int = 0,
        timeout_s: float = 0.0,
        price_usd_per_minute: float = -1.0,
        requests_per_minute: float = 0.0,
        local_only: bool = False,
        profile: Profile | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.base_url = base_url or OPENAI_URL
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._profile = profile or profile_for(model, self.base_url)
        self._price_is_set = price_usd_per_minute >= 0
        self.capabilities = Capabilities(
            encoding="opus",
            max_bytes=self._profile.max_bytes,
            max_s=self._profile.max_s,
            timestamps="verbose_json" in self._profile.formats,
            max_concurrency=max_concurrency or self._profile.max_concurrency,
            usd_per_minute=price_usd_per_minute if self._price_is_set else self._profile.usd_per_minute,
            speakers=self._profile.speakers,
            requests_per_minute=requests_per_minute,
        )
        self._concurrency_is_set = max_concurrency > 0
        self._connection = Connection(
            self.base_url,
            self._profile,
            max(self.capabilities.max_concurrency, _MOST_OF_KIND),
            clock or SystemClock(),
            local_only=local_only,
        )
        self._recognised = self._profile.kind != "unknown"
        self._recognising = asyncio.Lock()
        # What this server was seen to refuse; each option can be learned once, so adjusting always ends.
        self._refused: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._connection.close()

    async def warm(self) -> None:
        """Import the SDK and build the client ahead of the first request; no audio is sent.

        A server that nothing is known of is asked for its list of models, once, to find out what it is.

        Raises:
            Fault: ``engine.not_installed`` or ``engine.no_model`` (base_url is no URL).
        """
        await self._connection.open()
        async with self._recognising:
            if not self._recognised:
                self._recognised = True
                with contextlib.suppress(Fault):
                    key = self._key() or NO_KEY
                    server, models = await self._connection.models(key=key, timeout_s=_RECOGNISE_S)
                    self._learn_kind(kind_of(server, models))

    def _learn_kind(self, kind: str | None) -> bool:
        """Take over what is known of a kind of server; whether that is news."""
        if kind is None or self._profile.kind != "unknown":
            return False
        self._profile = profile = refine(self._profile, kind)
        can = self.capabilities
        self.capabilities = replace(
            can,
            max_bytes=min(can.max_bytes, profile.max_bytes),
            max_s=min(can.max_s, profile.max_s),
            max_concurrency=can.max_concurrency if self._concurrency_is_set else profile.max_concurrency,
        )
        _log.info("engine.recognised", engine=self.name, server=kind)
        return True

    @property
    def stated(self) -> Stated | None:
        """What the newest answer said of the server's rate limit (``ports.engine.Limited``)."""
        return self._connection.stated

    async def transcribe(self, chunk: EngineChunk, hints: Hints) -> ChunkResult:
        """Send one cut as one request (see ``ports.Engine``).

        Raises:
            Fault: ``engine.*``. ``engine.adjusted``: the server refused an option, which is left out from
                now on; asking again at once makes sense, and can happen only a few times for an engine.
        """
        if chunk.encoding not in _UPLOADS:
            raise ValueError(f"this engine takes opus, not {chunk.encoding}")
        if chunk.duration_s < SHORTEST_S:
            return ChunkResult("", flags=("no_speech",))
        if chunk.size_bytes > self.capabilities.max_bytes:
            raise Fault("engine.too_large", f"{chunk.size_bytes / 1e6:.1f} MB in one request")
        if chunk.duration_s > self.capabilities.max_s + 1:
            limit_s = self.capabilities.max_s
            raise Fault("engine.too_large", f"{chunk.duration_s:.0f} s in one request", limit_s=limit_s)
        key = self._key()
        request = self._plan(hints)
        reply = await self._connection.send(
            chunk.path,
            _UPLOADS[chunk.encoding],
            request.fields,
            key=key or NO_KEY,
            timeout_s=self._timeout_s or self._allowance_s(chunk),
        )
        if isinstance(reply, Signal):
            return self._refused_by(reply, request, key)
        return await self._understood(reply, chunk, request, key)

    # -- asking -----------------------------------------------------------------------------------------

    def _key(self) -> str | None:
        key = (self._api_key() or "").strip()
        if not key:
            if self._profile.own:
                raise Fault("engine.no_key")
            return None
        if not key.isascii() or not key.isprintable() or " " in key:
            raise Fault("engine.bad_key", "it holds characters that no key has")
        return key

    def _allowance_s(self, chunk: EngineChunk) -> float:
        upload_s = chunk.size_bytes / _SLOWEST_UPLOAD_BYTES_PER_S
        return self._profile.allowance_s + self._profile.allowance_per_s * chunk.duration_s + upload_s

    def _plan(self, hints: Hints) -> _Request:
        fields: dict[str, Any] = {"model": self.model}
        sent: set[str] = set()
        if self._profile.chunking:
            fields["chunking_strategy"] = "auto"
        if hints.speakers:
            self._plan_speakers(hints, fields, sent)
        elif self._profile.plain:
            if hints.want_times and len(hints.languages) != 1 and self._may("words"):
                fields["timestamp_granularities"] = ["segment"]
                sent.add("words")
        elif hints.want_times and self._may("verbose_json") and "verbose_json" in self._profile.formats:
            fields["response_format"] = "verbose_json"
            sent.add("verbose_json")
            if self._profile.words and self._may("words"):
                fields["timestamp_granularities"] = ["word", "segment"]
                sent.add("words")
            if self._profile.without_timestamps and self._may("without_timestamps"):
                # speaches leaves segments out unless told otherwise (read in its code)
                fields["extra_body"] = {"without_timestamps": False}
                sent.add("without_timestamps")
        else:
            fields["response_format"] = "json"
        self._plan_language(hints, fields, sent)
        self._plan_words(hints, fields, sent)
        return _Request(fields, frozenset(sent))

    def _plan_speakers(self, hints: Hints, fields: dict[str, Any], sent: set[str]) -> None:
        if not self._may("diarized_json"):
            raise Fault("engine.no_speakers", "the server does not know response_format diarized_json")
        fields["response_format"] = "diarized_json"
        sent.add("diarized_json")
        if self._may("chunking"):
            fields["chunking_strategy"] = "auto"  # required for more than 30 s of audio
            sent.add("chunking")
        if hints.voices and self._may("voices"):
            fields["known_speaker_names"] = [voice.name for voice in hints.voices]
            fields["known_speaker_references"] = [
                f"data:{voice.media_type};base64,{base64.b64encode(voice.sample).decode()}"
                for voice in hints.voices
            ]
            sent.add("voices")

    def _plan_language(self, hints: Hints, fields: dict[str, Any], sent: set[str]) -> None:
        if self._profile.language_list:
            if hints.languages and self._may("languages"):
                fields["languages"] = list(hints.languages)
                sent.add("languages")
        elif len(hints.languages) == 1 and self._may("language"):
            fields["language"] = hints.languages[0]
            sent.add("language")
        elif self._profile.detect and self._may("language"):
            fields["language"] = self._profile.detect
            sent.add("language")

    def _plan_words(self, hints: Hints, fields: dict[str, Any], sent: set[str]) -> None:
        prompt = hints.prompt.strip()
        # A keyword with one of these rejects the whole request (the vendor's page on keywords).
        keywords = [" ".join(re.sub(r"[<>\r\n]+", " ", keyword).split()) for keyword in hints.keywords]
        keywords = [keyword for keyword in keywords if keyword]
        if keywords and self._profile.keywords and self._may("keywords"):
            fields["keywords"] = keywords
            sent.add("keywords")
        elif keywords:
            prompt = " ".join(filter(None, [prompt, ", ".join(keywords)]))
        if prompt and self._profile.prompt and self._may("prompt"):
            fields["prompt"] = prompt
            sent.add("prompt")

    def _may(self, option: str) -> bool:
        return option not in self._refused

    # -- understanding ----------------------------------------------------------------------------------

    async def _understood(
        self, reply: Reply, chunk: EngineChunk, request: _Request, key: str | None
    ) -> ChunkResult:
        asked = "language" in request.fields or not self._may("language")
        if self._learn_kind(kind_of(reply.server, None)) and self._profile.detect and not asked:
            raise Fault("engine.adjusted", "this server takes English for granted unless asked to detect")

        def read() -> ChunkResult:
            answer = read_answer(reply.body, content_type=reply.content_type, duration_s=chunk.duration_s)
            return ChunkResult(
                text=answer.text,
                segments=answer.segments,
                languages=answer.languages,
                timestamps="engine" if answer.segments else "none",
                cost_usd=self._cost_usd(answer.audio_s),
                audio_s=answer.audio_s,
                flags=() if answer.text else ("no_speech",),
            )

        refusal: Signal
        try:
            return read() if len(reply.body) < _PARSE_IN_THREAD_BYTES else await asyncio.to_thread(read)
        except NotUnderstood as error:
            refusal = _nonsense(error)
        # Raised out here: the exception above must not travel along, it knows the answer's body.
        raise fault_of(refusal, secrets=[key] if key else [])

    def _cost_usd(self, audio_s: float | None) -> float | None:
        """What the server's usage says, priced; a configured price counts by duration, which is not ours."""
        if audio_s is None or self._price_is_set or not self._profile.usd_per_minute:
            return None
        return audio_s / 60 * self._profile.usd_per_minute

    def _refused_by(self, signal: Signal, request: _Request, key: str | None) -> ChunkResult:
        if is_too_short(signal):
            return ChunkResult("", flags=("no_speech",))
        limit_s = maximum_s(signal)
        if limit_s is not None and _SMALLEST_LEARNED_S <= limit_s < self.capabilities.max_s:
            self.capabilities = replace(self.capabilities, max_s=limit_s - 10)
        secrets = [key] if key else []
        option = decide_adjustment(signal, request.sent)
        if option is not None:
            self._refused.add(option)
            if option == "verbose_json":
                self.capabilities = replace(self.capabilities, timestamps=False)
            raise Fault("engine.adjusted", f"{option}: {clean(signal.message, secrets=secrets)}")
        fault = fault_of(signal, secrets=secrets)
        if fault.code == "engine.bad_key" and key is None:
            raise Fault("engine.no_key", fault.detail)
        raise fault


def _nonsense(error: NotUnderstood) -> Signal:
    told = error.error
    message = f"{error}: {told.message}" if told.message else str(error)
    return Signal("decode", 200, told.code, told.type, message)
