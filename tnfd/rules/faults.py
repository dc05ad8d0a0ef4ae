"""What a server's refusal means: from a signal (status, code, message) to a Fault. Pure.

Owns the table of refusals, the reading of "wait this long" headers, and the cleaning of foreign messages:
no key and no transcript may reach a Fault through here. Never sends anything and never counts anything.

Sources of the strings: the API's error objects as users report them in public (speakr#168,
pipecat#1575, openai-dotnet#401, openwhispr#405), servers' code where noted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from tnfd.errors import Fault

MESSAGE_MAX = 200
MAX_PATIENCE_S = 24 * 3600.0  # a server that asks for more is asked again after a day

Kind = Literal["http", "timeout", "connection", "decode"]


@dataclass(frozen=True, slots=True)
class Signal:
    """One failed request as it was seen.

    ``kind`` "http" carries a status; "decode" is an answer that makes no sense (``message`` says why, in our
    own words); "connection" and "timeout" got no answer. ``retry_after_s`` is what the headers ask for.
    ``sent_whole``: the upload had left before the answer was lost, so that it may have been paid.
    """

    kind: Kind
    status: int | None = None
    code: str = ""
    type: str = ""
    message: str = ""
    param: str = ""
    retry_after_s: float | None = None
    sent_whole: bool = False


_QUOTA = re.compile(
    r"insufficient_quota|credit_balance_exhausted|spend_limit_exceeded|billing_hard_limit|billing_not_active"
)
_MODEL_CODE = re.compile(r"model_not_found|invalid_model|deployment_?not_?found|unknown_model")
_MODEL_TEXT = re.compile(
    r"model\b.{0,120}\b(?:does not exist|not found|is not supported|is unknown)|not installed locally", re.S
)
_KEY = re.compile(r"invalid_api_key|invalid_authentication|account_deactivated|incorrect api key")
_SLOW = re.compile(r"rate_limit|slow_down|too_many_requests")
_FILTER = re.compile(r"content_filter|content_policy|content management policy|safety system")
_LARGE = re.compile(
    r"input_too_large|longer than|too large|too long|maximum content size|payload size"
    r"|exceeds the (?:max|limit)"
)
_SHORT = re.compile(r"audio_too_short|audio(?: file)? is too short|is shorter than|minimum audio length")
_MAXIMUM = re.compile(r"longer than (\d{1,6}(?:\.\d{1,6})?) ?s(?:ec|\b)")
# The audio, in the words of the servers: whisper.cpp "failed to read audio data", speaches "Failed to decode
# audio", LocalAI by way of ffmpeg "Invalid data found when processing input".
_UNREADABLE = re.compile(
    r"corrupt|unsupported (?:audio|file|format|media)|invalid data found"
    r"|(?:invalid|unrecogni[sz]ed|unknown) (?:audio|file|media)"
    r"|(?:fail\w*|unable|could not|cannot|can't) (?:to )?(?:decode|read|process|open|load|parse)"
)
_OVERLOADED = (429, 503, 529)  # fewer requests at once would help


_CROWDED = frozenset({"engine.rate_limited", "engine.server_error"})


def fault_of(signal: Signal, *, secrets: Collection[str] = ()) -> Fault:
    """Name the fault; ``secrets`` are strings that its message must not hold."""
    code = _code_of(signal)
    detail = clean(signal.message, secrets=secrets)
    if signal.status is not None and signal.kind == "http":
        detail = f"HTTP {signal.status}: {detail}" if detail else f"HTTP {signal.status}"
    return Fault(
        code,
        detail,
        retry_after_s=signal.retry_after_s,
        maybe_paid=signal.sent_whole or signal.kind == "decode",
        limit_s=maximum_s(signal) if code == "engine.too_large" else None,
        overloaded=signal.kind == "http" and signal.status in _OVERLOADED and code in _CROWDED,
    )


def _code_of(signal: Signal) -> str:
    if signal.kind == "timeout":
        return "engine.timeout"
    if signal.kind == "connection":
        return "engine.unreachable"
    named = f"{signal.code} {signal.type}".lower()
    said = f"{named} {signal.message}".lower()
    about_engine = _engine_code(signal.status or 0, named, said)
    if about_engine:
        return about_engine
    if signal.kind == "decode":
        return "engine.bad_answer"
    if signal.status == 503 and signal.retry_after_s is not None:
        return "engine.rate_limited"  # it says when it will have time: patience, and nobody's failure
    return _request_code(signal, said)


def _engine_code(status: int, named: str, said: str) -> str | None:
    """Refusals that any other request would meet as well; they go by name first, then by status."""
    if _QUOTA.search(named) or status == 402:
        return "engine.no_quota"
    if _MODEL_CODE.search(named):
        return "engine.no_model"
    if _KEY.search(said) or status in (401, 403):
        return "engine.bad_key"
    if status == 429 and "request too large" in said:
        return "engine.too_large"  # bigger than the whole bucket: patience would never help
    loading = status == 503 and "loading" in said  # whisper.cpp, until its model is in memory
    if _SLOW.search(named) or status == 429 or loading:
        return "engine.rate_limited"
    # 3xx: redirects are not followed, the key belongs to one host. 405, 410: there is no such service.
    if status in (404, 405, 410) or 300 <= status < 400:
        return "engine.no_model"
    if status in (400, 422) and _MODEL_TEXT.search(said):
        return "engine.no_model"
    return None


def _request_code(signal: Signal, said: str) -> str:
    """Refusals of this one request."""
    status = signal.status or 0
    if status >= 500:
        return "engine.server_error"
    if status == 408:
        return "engine.timeout"
    if status == 413:
        return "engine.too_large"
    if status == 415:
        return "engine.bad_audio"
    if status in (400, 422):
        return _bad_request_code(signal, said)
    return "engine.server_error"  # 409, 425 and whatever else: tried again, counted


def _bad_request_code(signal: Signal, said: str) -> str:
    if _FILTER.search(said):
        return "engine.content_filter"
    if _about_an_option(signal, said):
        return "engine.rejected"
    if _LARGE.search(said):
        return "engine.too_large"
    # A 400 that nothing explains may well be about the audio: one other encoding is tried. A 422 is a form's
    # checker (FastAPI); unless it speaks of the audio it would say the same again.
    return "engine.bad_audio" if signal.status == 400 or _UNREADABLE.search(said) else "engine.rejected"


def _about_an_option(signal: Signal, said: str) -> bool:
    """Whether a refusal is about one of the form's fields and not about the audio."""
    if signal.param and signal.param.lower() not in ("file", "audio"):
        return True
    # "prompt is too long" is about an option, which can be left out.
    return any(re.search(rf"\b{name}\b", said) for names in _OPTION_NAMES.values() for name in names)


def is_too_short(signal: Signal) -> bool:
    """Whether the server finds that there is not enough audio to transcribe."""
    return signal.status in (400, 422) and bool(_SHORT.search(f"{signal.code} {signal.message}".lower()))


def maximum_s(signal: Signal) -> float | None:
    """The longest audio that the server says it takes (seconds); None if it names none."""
    found = _MAXIMUM.search(signal.message.lower()) if signal.status in (400, 413, 422) else None
    return float(found[1]) if found else None


# What a request may carry besides the audio, and how a server that does not know it names it.
_OPTION_NAMES: dict[str, tuple[str, ...]] = {
    "voices": ("known_speaker_names", "known_speaker_references", "known_speaker"),
    "chunking": ("chunking_strategy",),
    "diarized_json": ("response_format", "diarized_json"),
    "verbose_json": ("response_format", "verbose_json"),
    "words": ("timestamp_granularities", "word timestamps"),
    "without_timestamps": ("without_timestamps",),
    "keywords": ("keywords", "keyword"),
    "languages": ("languages", "language"),
    "language": ("language", "languages"),
    "prompt": ("prompt",),
}


def decide_adjustment(signal: Signal, sent: Collection[str]) -> str | None:
    """Which of the options ``sent`` the server objects to; None: it is about something else."""
    if signal.status not in (400, 422) or _code_of(signal) != "engine.rejected" or is_too_short(signal):
        return None  # what is about an option is always "rejected" (_about_an_option)
    param = signal.param.lower().removesuffix("[]").partition("[")[0]
    said = signal.message.lower()
    for option, names in _OPTION_NAMES.items():
        if option in sent and param in names:
            return option
    for option, names in _OPTION_NAMES.items():
        if option in sent and any(re.search(rf"\b{name}\b", said) for name in names):
            return option
    return None


# -- foreign messages -----------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_SECRET = re.compile(
    r"(?i)\bbearer\s+\S+"  # a header
    r"|\b(?:sk|gsk|pk|xai|hf|api|key)[-_][^\s'\",;)}\]]{4,}"  # keys by their prefix
    r"|(?<![\w-])(?=[\w-]*\d)[\w-]{32,}"  # long tokens
)


def clean(message: str, *, secrets: Collection[str] = ()) -> str:
    """Make a foreign message fit for logs and status files: one short line without keys."""
    text = message[: 20 * MESSAGE_MAX]
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    text = _CONTROL.sub(" ", text)
    text = _SECRET.sub("***", text)
    text = " ".join(text.split())
    return text if len(text) <= MESSAGE_MAX else text[: MESSAGE_MAX - 1].rstrip() + "…"


# -- patience -------------------------------------------------------------------------------------------

_GO_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_PART = re.compile(r"(\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})(ns|us|µs|μs|ms|s|m|h)")


def go_duration_s(text: str) -> float | None:
    """Seconds of a duration as Go writes it (``1m2.5s``, ``20ms``); a bare number counts as seconds."""
    text = text.strip()
    try:
        bare = float(text)
    except ValueError:
        parts = _GO_PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            return None
        return sum(float(number) * _GO_UNIT_S[unit] for number, unit in parts)
    return bare if math.isfinite(bare) and bare >= 0 else None


def patience_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """How long the server asks to wait (seconds), from the headers of a refusal; None if it does not say.

    ``headers`` have lower-case names. A date is measured against the server's own clock where it sent one.
    """
    wait_s = _milliseconds(headers.get("retry-after-ms"))
    if wait_s is None:
        wait_s = _retry_after(headers.get("retry-after"), headers.get("date"), now)
    if wait_s is None:
        # Only an empty bucket says something: "reset" is the time until it is full (x-ratelimit headers).
        resets = [
            go_duration_s(headers.get(f"x-ratelimit-reset-{what}", ""))
            for what in ("requests", "tokens")
            if headers.get(f"x-ratelimit-remaining-{what}", "").strip() == "0"
            # Where the limit is stated as well, rules.throttle knows better when the next token comes.
            and not (what == "requests" and headers.get("x-ratelimit-limit-requests"))
        ]
        wait_s = max((reset for reset in resets if reset is not None), default=None)
    return None if wait_s is None else min(max(wait_s, 0.0), MAX_PATIENCE_S)


def _milliseconds(value: str | None) -> float | None:
    return go_duration_s(f"{value.strip()}ms") if value else None


def _retry_after(value: str | None, date: str | None, now: datetime) -> float | None:
    if not value:
        return None
    seconds = go_duration_s(value)
    if seconds is not None:
        return seconds
    until = _moment(value)
    return None if until is None else (until - (_moment(date) or now)).total_seconds()


def _moment(value: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # A date without a zone ("-0000") has no offset to compare with; HTTP dates are always GMT.
    return moment if moment.tzinfo is not None else None
