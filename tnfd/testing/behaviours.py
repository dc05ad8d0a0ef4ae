"""What the test server can be told to do with a request: answer, refuse, be slow, be broken. Records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Ok:
    """A transcript. ``text`` None: from the upload's content; ``delay_s`` None: the server's latency.

    ``extra`` is merged into a JSON answer (``{"language": None}``).
    """

    text: str | None = None
    delay_s: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Status:
    """A refusal with an error object. ``early``: answered and closed before the upload was read."""

    status: int
    code: str | None = None
    type: str = "invalid_request_error"
    message: str = "refused by the test server"
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    early: bool = False


@dataclass(frozen=True, slots=True)
class Raw:
    """Any bytes as the answer. ``missing_bytes``: promised by Content-Length but never sent."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    missing_bytes: int = 0
    paid: bool = True


@dataclass(frozen=True, slots=True)
class Flood:
    """An answer of ``total_bytes``, with Content-Length or (``chunked``) without."""

    total_bytes: int
    chunked: bool = False


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer until the client gives up; ``when`` "upload": reads nothing either, until the server ends."""

    when: Literal["answer", "upload"] = "answer"


@dataclass(frozen=True, slots=True)
class Reset:
    """A TCP reset: in the middle of the upload, or instead of the answer, by then ``paid`` for or not."""

    when: Literal["answer", "upload"] = "answer"
    paid: bool = False


Behaviour = Ok | Status | Raw | Flood | Hang | Reset

MALFORMED = Raw(b'{"text": "half an ans')
EMPTY = Raw(b"")
HTML = Raw(b"<!doctype html><title>Welcome to nginx!</title>", content_type="text/html")
NO_TEXT = Raw(b'{"text": null}')
ERROR_ON_200 = Raw(b'{"error": {"message": "the model is on fire", "code": null}}')
TRUNCATED = Raw(b'{"text": "half an answer', missing_bytes=100)
WRONG_TYPE = Raw(b'{"text": "named wrongly"}', content_type="application/octet-stream")
PAID_THEN_LOST = Reset(paid=True)
BAD_KEY = Status(401, "invalid_api_key", message="Incorrect API key provided: sk-1234abcd. Find yours at ...")
NO_QUOTA = Status(429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota.")
RATE_LIMITED = Status(
    429, "rate_limit_exceeded", "requests", "Rate limit reached.", headers={"retry-after": "1"}
)
BAD_AUDIO = Status(400, "invalid_value", message="Audio file might be corrupted or unsupported")
SERVER_ERROR = Status(500, None, "server_error", "The server had an error while processing your request.")

NAMED: dict[str, Behaviour] = {
    "ok": Ok(), "malformed": MALFORMED, "empty": EMPTY, "html": HTML, "no_text": NO_TEXT,
    "error_on_200": ERROR_ON_200, "truncated": TRUNCATED, "wrong_type": WRONG_TYPE,
    "paid_then_lost": PAID_THEN_LOST, "bad_key": BAD_KEY, "no_quota": NO_QUOTA,
    "rate_limited": RATE_LIMITED, "server_error": SERVER_ERROR, "hang": Hang(), "reset": Reset(),
}  # fmt: skip


def redirect(url: str) -> Status:
    """Send the client elsewhere."""
    return Status(307, headers={"location": url}, message="moved")


def from_json(value: object) -> Behaviour:
    """Read a behaviour: a name of NAMED, a status number, or ``{"kind": "status", "status": 429, ...}``.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, int):
        return _of_status(value)
    if isinstance(value, str) and value in NAMED:
        return NAMED[value]
    if isinstance(value, dict):
        options = dict(value)
        kind = options.pop("kind", "")
        if kind == "raw":
            options["body"] = str(options.get("body", "")).encode()
        kinds: dict[str, type[Behaviour]] = {
            "ok": Ok, "status": Status, "raw": Raw, "flood": Flood, "hang": Hang, "reset": Reset,
        }  # fmt: skip
        if kind in kinds:
            try:
                return kinds[kind](**options)
            except TypeError as error:
                raise ValueError(str(error)) from None
    raise ValueError(f"not a behaviour: {value!r}")


def _of_status(status: int) -> Behaviour:
    known = {401: BAD_KEY, 429: RATE_LIMITED, 500: SERVER_ERROR}
    return known.get(status) or Status(
        status, type="server_error" if status >= 500 else "invalid_request_error"
    )
