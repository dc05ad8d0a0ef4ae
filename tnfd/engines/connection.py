"""The SDK at arm's length: builds its client, sends one request, and turns every way to fail into a Signal.

The only module that touches ``openai``, which costs 0.6 s and 41 MiB to import (measured, 3.54): that happens
in a thread, at the first request. No exception of the SDK leaves this module; they hold headers and bodies.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tnfd.engines.answers import read_error
from tnfd.engines.nearby import NotNearby, nearby_transport
from tnfd.engines.profiles import Profile, host_of
from tnfd.errors import Fault
from tnfd.ports.clock import Clock
from tnfd.rules.faults import Signal, patience_s
from tnfd.rules.throttle import Stated, stated_in

if TYPE_CHECKING:
    import httpx2
    import openai

MAX_ANSWER_BYTES = 64 * 1024 * 1024  # an hour of verbose_json with words is about 2 MB
_CONNECT_S = 10.0
# Below the 5 s after which uvicorn and others close an idle connection: reusing one just then would fail.
_KEEPALIVE_S = 4.0
NO_KEY = "none"  # the SDK insists on a key; servers that need none ignore it

# What a server that is not OpenAI's is told. The SDK adds the platform, and from the environment an
# organisation, a project and OPENAI_CUSTOM_HEADERS, which were written down for OpenAI. The last one tells
# the SDK itself what to return.
_PLAIN_HEADERS = frozenset(
    {"host", "accept", "accept-encoding", "authorization", "connection", "content-type", "content-length",
     "transfer-encoding", "user-agent", "x-stainless-raw-response"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with a good status; ``server`` is its Server header."""

    body: bytes
    content_type: str
    server: str


class _TooLarge(Exception):
    """The answer is larger than any transcript."""


class Connection:
    """One client for one server: built at the first use, closed once."""

    def __init__(
        self, base_url: str, profile: Profile, concurrency: int, clock: Clock, *, local_only: bool = False
    ) -> None:
        self._local_only = local_only
        self._base_url = base_url
        self._profile = profile
        self._concurrency = concurrency
        self._clock = clock
        self._building = asyncio.Lock()
        self._client: openai.AsyncOpenAI | None = None
        self._closed = False
        self.stated: Stated | None = None  # what the newest answer said of the rate

    async def open(self) -> openai.AsyncOpenAI:
        """Import the SDK and build the client, in a thread; at once if that was done before.

        Raises:
            Fault: ``engine.not_installed``; ``engine.no_model`` where base_url is no URL.
        """
        async with self._building:
            if self._closed:
                raise RuntimeError("the engine is closed")
            if self._client is None:
                self._client = await asyncio.to_thread(self._build)
            return self._client

    async def close(self) -> None:
        """Close all connections; harmless twice. Waits for an import that is under way."""
        async with self._building:
            self._closed = True
            client, self._client = self._client, None
            if client is not None:
                await client.close()

    def _build(self) -> openai.AsyncOpenAI:
        if host_of(self._base_url) is None:
            raise Fault("engine.no_model", "base_url is not an http(s) URL")
        try:
            import httpx2
            import openai
        except ImportError as error:
            raise Fault("engine.not_installed", str(error), hint="Run: pip install openai") from error
        hooks: dict[str, list[Any]] = {"response": [_bound]}
        if not self._profile.own:
            hooks["request"] = [_strip]
        limits = httpx2.Limits(
            max_connections=self._concurrency + 4,
            max_keepalive_connections=self._concurrency,
            keepalive_expiry=_KEEPALIVE_S,
        )
        try:
            http = openai.DefaultAsyncHttpxClient(
                follow_redirects=False,  # a redirect must never carry the key to another host
                timeout=httpx2.Timeout(None, connect=_CONNECT_S),  # the whole request has its own limit
                limits=limits,
                # With a transport of its own the client uses no proxy either.
                transport=nearby_transport(limits) if self._local_only else None,
                event_hooks=hooks,
            )
            client = openai.AsyncOpenAI(
                api_key=NO_KEY,  # the real one goes with each request
                admin_api_key="",
                base_url=self._base_url,
                max_retries=0,
                http_client=http,
                default_headers={"Accept-Encoding": "identity"},  # a compressed answer could hide its size
            )
        except httpx2.InvalidURL as error:
            raise Fault("engine.no_model", "base_url is not an http(s) URL") from error
        except OSError as error:  # SSL_CERT_FILE leads nowhere, for one
            raise Fault("engine.down", f"certificates: {error.strerror}") from error
        # The resource is imported on first access: do it here, not on the loop.
        _ = client.audio.transcriptions.with_raw_response
        return client

    async def send(
        self, audio: Path, shown: tuple[str, str], options: dict[str, Any], *, key: str, timeout_s: float
    ) -> Reply | Signal:
        """Upload the file in one request and return what came back.

        ``shown``: the name and the type that the server sees. ``timeout_s`` bounds everything
        from here on; cancellation closes the connection.

        Raises:
            Fault: as ``open``; ``internal.bug`` where the file is gone.
        """
        client = await self.open()
        # An open handle is read in blocks of 64 KiB; a path would be read into memory whole
        # (35 MiB for 20 MB, measured).
        with _open(audio) as handle:
            try:
                async with asyncio.timeout(timeout_s):
                    reply = await self._send(client, handle, shown, options, key)
            except TimeoutError:
                reply = Signal("timeout", message=f"no answer within {timeout_s:.4g} s")
            if isinstance(reply, Signal) and reply.kind in ("timeout", "connection"):
                reply = replace(reply, sent_whole=handle.read(1) == b"")
        return reply

    async def _send(
        self,
        client: openai.AsyncOpenAI,
        handle: BinaryIO,
        shown: tuple[str, str],
        options: dict[str, Any],
        key: str,
    ) -> Reply | Signal:
        import openai

        sent_at = self._clock.now().timestamp()
        try:
            raw = await client.audio.transcriptions.with_raw_response.create(
                # The name is ours: one with surrogates would raise.
                file=(shown[0], handle, shown[1]),
                # Named here, it also wins over an Authorization in OPENAI_CUSTOM_HEADERS.
                extra_headers={"Authorization": f"Bearer {key}"},
                **options,
            )
            headers = raw.headers
            self._hear(headers, sent_at)
            return Reply(raw.content, headers.get("content-type", ""), headers.get("server", ""))
        except openai.APIStatusError as error:
            # Refused for the rate at once; any other refusal may have been long in coming.
            signal = self._refusal(error.response)
            refused = signal.status == 429
            at = self._clock.now().timestamp() if refused else sent_at
            self._hear(error.response.headers, at, refused=refused, retry_s=signal.retry_after_s)
            return signal
        except openai.APIConnectionError as error:
            if (elsewhere := _elsewhere(error)) is None:
                return Signal("connection", message=_reason(error))
        except NotNearby as error:
            elsewhere = str(error)
        except openai.OpenAIError as error:
            return Signal("connection", message=type(error).__name__)
        except _TooLarge as error:
            return Signal("decode", message=str(error))
        raise Fault("engine.not_local", elsewhere)

    async def models(self, *, key: str, timeout_s: float) -> tuple[str, bytes | None]:
        """Ask for the list of models, which costs nothing: the Server header, and the list if there is one.

        Raises:
            Fault: as ``open``.
        """
        import openai

        client = await self.open()
        try:
            async with asyncio.timeout(timeout_s):
                raw = await client.models.with_raw_response.list(
                    extra_headers={"Authorization": f"Bearer {key}"}
                )
                return raw.headers.get("server", ""), raw.content
        except openai.APIStatusError as error:
            return error.response.headers.get("server", ""), None
        except (openai.OpenAIError, NotNearby, _TooLarge, TimeoutError):
            return "", None

    def _hear(
        self, headers: Mapping[str, str], at: float, *, refused: bool = False, retry_s: float | None = None
    ) -> None:
        lower = {name.lower(): value for name, value in headers.items()}
        self.stated = stated_in(lower, at, refused=refused, retry_s=retry_s)

    def _refusal(self, response: httpx2.Response) -> Signal:
        error = read_error(response.content)
        message = error.message
        if response.status_code // 100 == 3:
            message = "the server redirects elsewhere: write its final address into base_url"
        return Signal(
            "http",
            response.status_code,
            error.code,
            error.type,
            message,
            error.param,
            patience_s({name.lower(): value for name, value in response.headers.items()}, self._clock.now()),
        )


def _elsewhere(error: BaseException) -> str | None:
    """Where it leads, if that is why the connection was refused here."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, NotNearby):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise Fault("internal.bug", f"the cut cannot be read: {error.strerror}") from error


def _reason(error: BaseException) -> str:
    """The innermost cause that says something, without URLs and bodies."""
    cause: BaseException = error
    while cause.__cause__ is not None or cause.__context__ is not None:
        inner = cause.__cause__ or cause.__context__
        if inner is None or not str(inner):
            break
        cause = inner
    if cause is error:
        return type(error.__cause__ or error).__name__
    return f"{type(cause).__name__}: {cause}"


async def _strip(request: httpx2.Request) -> None:
    for name in [name for name in request.headers if name.lower() not in _PLAIN_HEADERS]:
        del request.headers[name]


async def _bound(response: httpx2.Response) -> None:
    """Refuse answers larger than any transcript before they fill the memory."""
    if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise _TooLarge("the answer is compressed although that was not asked for")
    length = response.headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_ANSWER_BYTES:
        raise _TooLarge(f"the answer claims {int(length) / 1e6:.0f} MB")
    response.stream = _bounded(response.stream)


def _bounded(stream: Any) -> Any:
    """Wrap a byte stream of the HTTP client; the class needs its import."""
    import httpx2

    class Bounded(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            left = MAX_ANSWER_BYTES
            async for part in stream:
                left -= len(part)
                if left < 0:
                    raise _TooLarge(f"the answer is larger than {MAX_ANSWER_BYTES / 1e6:.0f} MB")
                yield part

        async def aclose(self) -> None:
            await stream.aclose()

    return Bounded()
