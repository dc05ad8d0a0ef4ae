"""What is known of a server before the first request."""

from __future__ import annotations

import pytest

from tnfd.engines.profiles import OPENAI_URL, host_of, is_private_host, profile_for


@pytest.mark.parametrize(
    ("model", "usd", "formats"),
    [
        ("gpt-transcribe", 0.0045, ("json",)),
        ("gpt-transcribe-2026-10-01", 0.0045, ("json",)),
        ("gpt-4o-transcribe", 0.006, ("json",)),
        ("gpt-4o-mini-transcribe-2025-12-15", 0.003, ("json",)),
        ("gpt-4o-transcribe-diarize", 0.006, ("json",)),
        ("whisper-1", 0.006, ("verbose_json", "json")),
        ("gpt-next", 0.006, ("json",)),  # unknown: counted like the dearest
        ("gpt-transcriber", 0.006, ("json",)),
    ],
)
def test_openai_models(model: str, usd: float, formats: tuple[str, ...]) -> None:
    profile = profile_for(model, OPENAI_URL)
    assert (profile.usd_per_minute, profile.formats) == (usd, formats)
    assert profile.own
    assert profile.max_concurrency == 5


def test_only_gpt_transcribe_takes_lists() -> None:
    assert profile_for("gpt-transcribe", OPENAI_URL).language_list
    assert not profile_for("gpt-4o-transcribe", OPENAI_URL).language_list


@pytest.mark.parametrize(
    ("url", "concurrency"),
    [
        ("http://127.0.0.1:8000/v1", 1),
        ("http://[::1]:8000/v1", 1),
        ("http://192.168.1.20/v1", 1),
        ("http://speaches:8000/v1", 1),
        ("https://whisper.lan/v1", 1),
        ("https://api.groq.com/openai/v1", 5),
        ("https://openai.com.evil.example/v1", 5),
        ("https://8.8.8.8/v1", 5),
    ],
)
def test_other_servers(url: str, concurrency: int) -> None:
    profile = profile_for("whisper-1", url)
    assert not profile.own
    assert profile.usd_per_minute == 0
    assert profile.max_concurrency == concurrency
    assert profile.formats == ("verbose_json", "json")


@pytest.mark.parametrize(
    "url", ["", "nonsense", "http://[::1", "http://h:99999/v1", "ftp://h/v1", "http:///v1"]
)
def test_what_is_no_url(url: str) -> None:
    assert host_of(url) is None
    assert not profile_for("m", url).own


def test_private_names() -> None:
    assert is_private_host("localhost")
    assert is_private_host("nas.local")
    assert not is_private_host("api.openai.com")
    assert not is_private_host("localhost.example.com")
