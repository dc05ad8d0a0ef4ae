"""Every refusal and what it means, row by row."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tnfd.errors import Fate
from tnfd.rules.faults import (
    MAX_PATIENCE_S,
    Signal,
    clean,
    decide_adjustment,
    fault_of,
    go_duration_s,
    is_too_short,
    maximum_s,
    patience_s,
)

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def http(status: int, code: str = "", message: str = "", *, type: str = "", param: str = "") -> Signal:
    return Signal("http", status, code, type, message, param)


TABLE = [
    # -- the key
    (http(401, "invalid_api_key", "Incorrect API key provided"), "engine.bad_key"),
    (http(401), "engine.bad_key"),
    (http(403, "unsupported_country_region_territory"), "engine.bad_key"),
    (http(400, "", "Incorrect API key provided: abc"), "engine.bad_key"),
    # -- money: by name, whatever the status
    (http(429, "insufficient_quota", type="insufficient_quota"), "engine.no_quota"),
    (http(429, "", type="insufficient_quota"), "engine.no_quota"),
    (http(402), "engine.no_quota"),
    (http(400, "credit_balance_exhausted"), "engine.no_quota"),
    (http(429, "project_spend_limit_exceeded"), "engine.no_quota"),
    (http(429, "billing_hard_limit_reached"), "engine.no_quota"),
    (http(403, "insufficient_quota"), "engine.no_quota"),
    # -- the model or the address
    (http(404, "model_not_found"), "engine.no_model"),
    (http(403, "model_not_found"), "engine.no_model"),
    (http(404, "", "an HTML page"), "engine.no_model"),
    (http(405), "engine.no_model"),
    (http(307), "engine.no_model"),
    (http(404, "", "Model 'x' is not installed locally. You can download it"), "engine.no_model"),
    (http(400, "", "The model `whisper-9` does not exist"), "engine.no_model"),
    # -- patience
    (http(429, "rate_limit_exceeded", type="requests"), "engine.rate_limited"),
    (http(429), "engine.rate_limited"),
    (http(503, "slow_down"), "engine.rate_limited"),
    (http(429, "rate_limit_exceeded", "Request too large for gpt-4o on tokens per min"), "engine.too_large"),
    # -- the server
    (http(500), "engine.server_error"),
    (http(502, "", "an HTML page"), "engine.server_error"),
    (http(503, "", "Loading model"), "engine.rate_limited"),
    (Signal("http", 503, retry_after_s=5.0), "engine.rate_limited"),
    (http(529), "engine.server_error"),
    (http(504), "engine.server_error"),
    (http(409), "engine.server_error"),
    (http(425), "engine.server_error"),
    (http(408), "engine.timeout"),
    (Signal("timeout"), "engine.timeout"),
    (Signal("connection", message="ConnectError"), "engine.unreachable"),
    # -- answers that make no sense
    (Signal("decode", 200, message="the answer is broken JSON"), "engine.bad_answer"),
    (Signal("decode", 200, "insufficient_quota"), "engine.no_quota"),
    (Signal("decode", 200, "rate_limit_exceeded"), "engine.rate_limited"),
    # -- this request
    (http(413), "engine.too_large"),
    (http(413, "", "an HTML page"), "engine.too_large"),
    (http(400, "input_too_large"), "engine.too_large"),
    (
        http(400, "invalid_value", "audio duration 1830.53 seconds is longer than 1400 seconds which is ..."),
        "engine.too_large",
    ),
    (http(422, "", "Maximum content size limit (26214400) exceeded"), "engine.too_large"),
    (http(400, "content_filter"), "engine.content_filter"),
    (
        http(400, "", "The prompt triggered the content management policy"),
        "engine.content_filter",
    ),
    (http(400, "content_policy_violation"), "engine.content_filter"),
    # -- this audio: another encoding is tried once
    (http(400, "invalid_value", "Audio file might be corrupted or unsupported"), "engine.bad_audio"),
    (http(400, "", "Audio file might be corrupted or unsupported", param="file"), "engine.bad_audio"),
    (http(400, "", "Invalid file format. Supported formats: ['flac', ...]"), "engine.bad_audio"),
    (http(400, "", "Unrecognized file format. Supported formats: ..."), "engine.bad_audio"),
    (http(415), "engine.bad_audio"),
    (http(415, "", "Failed to decode audio. The provided file type is not supported."), "engine.bad_audio"),
    (http(400), "engine.bad_audio"),
    (http(400, "", "failed to read audio data"), "engine.bad_audio"),
    (http(400, "", "an HTML page"), "engine.bad_audio"),
    (http(422, "", "could not decode the audio"), "engine.bad_audio"),
    # -- this request's options, which no other encoding would mend
    (http(422), "engine.rejected"),
    (http(422, "value_error", "Input should be a valid string", param="temperature"), "engine.rejected"),
    (http(400, "unsupported_value", "response_format 'srt' is not compatible"), "engine.rejected"),
    (http(400, "unsupported_value", "x", param="response_format"), "engine.rejected"),
    (http(400, "", "prompt is too long"), "engine.rejected"),  # about an option, not about the audio
    (http(400, "", "Unknown parameter: 'languages'."), "engine.rejected"),
    (http(418), "engine.server_error"),
]


@pytest.mark.parametrize(("signal", "code"), TABLE, ids=lambda value: str(value)[:60])
def test_fault_when_refused(signal: Signal, code: str) -> None:
    assert fault_of(signal).code == code


def test_fates_of_the_codes() -> None:
    fates = {code: fault_of(signal).fate for signal, code in TABLE}
    assert fates["engine.bad_key"] == fates["engine.no_quota"] == fates["engine.no_model"] == Fate.ENGINE
    assert fates["engine.rate_limited"] == Fate.THROTTLE
    assert (
        fates["engine.server_error"] == fates["engine.timeout"] == fates["engine.bad_answer"] == Fate.ATTEMPT
    )
    assert fates["engine.rejected"] == fates["engine.content_filter"] == Fate.FILE
    assert fates["engine.too_large"] == Fate.SPLIT
    assert fates["engine.bad_audio"] == Fate.REENCODE


@pytest.mark.parametrize(
    ("signal", "limit_s"),
    [
        (http(400, "", "audio duration 1830.53 seconds is longer than 1400 seconds which"), 1400.0),
        (http(413, "", "audio is longer than 300 sec"), 300.0),
        (http(413), None),
        (http(400, "input_too_large"), None),
        (http(500, "", "longer than 1400 seconds"), None),
    ],
)
def test_limit_of_the_server_travels_with_the_fault(signal: Signal, limit_s: float | None) -> None:
    assert fault_of(signal).limit_s == limit_s


@pytest.mark.parametrize(
    ("signal", "overloaded"),
    [
        (http(429), True),
        (http(503), True),
        (http(503, "slow_down"), True),
        (http(429, "insufficient_quota"), False),
        (http(429, "", "Request too large for gpt-4o"), False),
        (http(500), False),
        (Signal("timeout"), False),
    ],
)
def test_only_too_much_at_once_asks_for_fewer_at_once(signal: Signal, overloaded: bool) -> None:
    assert fault_of(signal).overloaded is overloaded


def test_retry_after_travels_with_the_fault() -> None:
    assert fault_of(Signal("http", 429, retry_after_s=12.5)).retry_after_s == 12.5


@pytest.mark.parametrize(
    ("signal", "short"),
    [
        (http(400, "audio_too_short", "Audio file is too short. Minimum audio length is 0.1 seconds."), True),
        (
            http(400, "invalid_value", "audio duration 0.0 seconds is shorter than 0.1 seconds which ..."),
            True,
        ),
        (http(400, "invalid_value", "audio duration 1500 seconds is longer than 1400 seconds"), False),
        (http(500, "", "audio is too short"), False),
        (http(400), False),
    ],
)
def test_too_short_audio_is_told_apart(signal: Signal, short: bool) -> None:
    assert is_too_short(signal) is short


def test_maximum_is_read_from_the_message() -> None:
    assert (
        maximum_s(http(400, "", "audio duration 1830.53 seconds is longer than 1400 seconds which")) == 1400
    )
    assert maximum_s(http(400, "", "longer than life")) is None
    assert maximum_s(http(500, "", "longer than 1400 seconds")) is None


# -- learning -------------------------------------------------------------------------------------------

ALL = frozenset({"verbose_json", "words", "without_timestamps", "keywords", "language", "prompt"})


@pytest.mark.parametrize(
    ("signal", "sent", "option"),
    [
        (http(400, "unsupported_value", "x", param="response_format"), ALL, "verbose_json"),
        (
            http(400, "", "response_format 'verbose_json' is not compatible with model 'm'"),
            ALL,
            "verbose_json",
        ),
        (http(400, "", "x", param="response_format"), {"language"}, None),  # json was asked for already
        (http(400, "", "x", param="timestamp_granularities[]"), ALL, "words"),
        (http(422, "extra_forbidden", "Extra inputs", param="without_timestamps"), ALL, "without_timestamps"),
        (http(400, "unknown_parameter", "Unknown parameter: 'languages'."), {"languages"}, "languages"),
        (http(400, "", "Unknown parameter: 'language'."), {"languages"}, "languages"),
        (http(400, "", "x", param="languages[0]"), {"languages"}, "languages"),
        (http(400, "", "x", param="keywords"), ALL, "keywords"),
        (
            http(400, "", "prompt length must be 896 characters or fewer, but it is too long"),
            ALL,
            "prompt",
        ),
        (http(400, "", "Audio file might be corrupted or unsupported"), ALL, None),
        (http(400, "content_filter", "the prompt was filtered"), ALL, None),
        (http(500, "", "verbose_json"), ALL, None),
        (http(401, "", "language"), ALL, None),
        (http(400, "", "the language model does not exist"), ALL, None),  # about the model
    ],
)
def test_adjustment(signal: Signal, sent: frozenset[str], option: str | None) -> None:
    assert decide_adjustment(signal, sent) == option


# -- messages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        "Incorrect API key provided: sk-proj-abcDEF123456789. You can find",
        "header was Bearer abcdef",
        "header was authorization: bearer gAAAA.bbbb",
        "gsk_abcdefgh1234567890 is wrong",
        "token 0123456789abcdef0123456789abcdef0123 expired",
    ],
)
def test_keys_are_masked(message: str) -> None:
    shown = clean(message)
    assert "***" in shown
    for secret in ("abcDEF123", "abcdef", "gAAAA", "0123456789abcdef"):
        assert secret not in shown


def test_own_key_is_masked_whatever_it_looks_like() -> None:
    fault = fault_of(Signal("http", 401, message="you sent hunter2!"), secrets=["hunter2"])
    assert "hunter2" not in str(fault)
    assert "hunter2" not in fault.message


def test_words_are_not_taken_for_keys() -> None:
    text = "Audio file might be corrupted or unsupported: antidisestablishmentarianism-and-more-words"
    assert clean(text) == text


def test_messages_become_one_short_line() -> None:
    shown = clean("a\nb\x1b[31mc\u202ed\x00" + "x y" * 500)
    assert len(shown) <= 200
    assert shown.isprintable()
    assert shown.startswith("a b [31mc d")


# -- patience -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1m2.5s", 62.5),
        ("20ms", 0.02),
        ("1h0m1s", 3601.0),
        ("6m0s", 360.0),
        ("3.362s", 3.362),
        ("500µs", 0.0005),
        ("7", 7.0),
        ("0", 0.0),
        ("", None),
        ("soon", None),
        ("5 minutes", None),
        ("-3", None),
        ("nan", None),
        ("inf", None),
        ("1s2", None),
    ],
)
def test_go_durations(text: str, seconds: float | None) -> None:
    result = go_duration_s(text)
    assert result == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "30"}, 30.0),
        ({"retry-after-ms": "1500", "retry-after": "30"}, 1.5),
        ({"retry-after-ms": "junk", "retry-after": "30"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:01:00 GMT"}, 60.0),
        # The server's clock is ten minutes fast; what it means is one minute.
        (
            {"retry-after": "Mon, 23 Nov 2026 12:11:00 GMT", "date": "Mon, 23 Nov 2026 12:10:00 GMT"},
            60.0,
        ),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:01:00 -0000"}, None),
        ({"retry-after": "whenever"}, None),
        ({"retry-after": "1e9"}, MAX_PATIENCE_S),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2s"}, 62.0),
        # "reset" of a bucket that is not empty says nothing about waiting.
        ({"x-ratelimit-remaining-requests": "47", "x-ratelimit-reset-requests": "3.362s"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "2s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "9s",
            },
            9.0,
        ),
        ({"x-ratelimit-remaining-requests": "0"}, None),
    ],
)
def test_patience(headers: dict[str, str], seconds: float | None) -> None:
    assert patience_s(headers, NOW) == (None if seconds is None else pytest.approx(seconds))
