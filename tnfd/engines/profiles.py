"""What is known of models and servers before the first request: formats, limits, prices, options. Pure.

Sources: [doc] the vendor's pages, [field] reported in public, as of November 2026. ``whisper-1`` and the
gpt-4o models shut down on 2027-02-26 (the SDK's ``types/audio_model.py``).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

OPENAI_URL = "https://api.openai.com/v1"

# The limit of 26,214,400 bytes counts the whole request [field].
_MAX_BYTES = 24_000_000
_UNKNOWN_MAX_S = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class Profile:
    """How to talk to one model at one server.

    ``formats`` best first; ``max_bytes`` and ``max_s`` bound one request; ``usd_per_minute`` is 0 where no
    price is known. ``allowance_s`` and ``allowance_per_s`` say how long an answer may take:
    that many seconds, and that many for each second of audio.
    """

    kind: str = "openai"  # the server program or the company; "unknown": learns from refusals
    formats: tuple[str, ...] = ("json",)
    max_bytes: int = _MAX_BYTES
    max_s: float = _UNKNOWN_MAX_S
    usd_per_minute: float = 0.0
    language_list: bool = False  # takes ``languages``, not ``language``
    keywords: bool = False  # takes ``keywords``; else they join the prompt
    prompt: bool = True
    words: bool = True  # gives times of words, too, where it gives times
    detect: str = ""  # what ``language`` says where it is not known; empty: it is left out
    without_timestamps: bool = False  # wants to be told that times are wanted
    plain: bool = False  # takes no ``response_format``: segments come where their granularity is asked for
    own: bool = True  # OpenAI's own server
    speakers: bool = False  # answers diarized_json
    chunking: bool = False  # wants to be told how to chunk what is over 30 s
    max_concurrency: int = 5
    allowance_s: float = 60.0
    allowance_per_s: float = 0.5


# The longest matching prefix counts: dated names ("gpt-4o-mini-transcribe-2025-12-15") follow their family.
_OPENAI: dict[str, Profile] = {
    # $0.0045 [doc]; its longest audio is not known: the server says so where it is too long.
    "gpt-transcribe": Profile(usd_per_minute=0.0045, language_list=True, keywords=True),
    "gpt-4o-transcribe": Profile(max_s=1390.0, usd_per_minute=0.006),  # 1400 s [field, speakr#168]
    "gpt-4o-mini-transcribe": Profile(max_s=1390.0, usd_per_minute=0.003),
    "gpt-4o-transcribe-diarize": Profile(
        max_s=1390.0, usd_per_minute=0.006, prompt=False, speakers=True, chunking=True
    ),
    "whisper-1": Profile(formats=("verbose_json", "json"), usd_per_minute=0.006),  # [doc]
}
# A model of tomorrow: counted like the dearest of today, so that a budget holds.
_OPENAI_UNKNOWN = Profile(usd_per_minute=0.006)

# A server of its own kind: verbose_json is tried where times are wanted, and given up on the first refusal.
# So is diarized_json where speakers are asked for.
_FOREIGN = Profile(
    kind="unknown", formats=("verbose_json", "json"), own=False, without_timestamps=True, speakers=True
)
_PRIVATE = replace(_FOREIGN, max_concurrency=1, allowance_s=120.0, allowance_per_s=4.0)
_KNOWN = replace(_FOREIGN, without_timestamps=False)

# Companies, by the end of their servers' names. Prices are not kept: they change, and differ by contract.
_COMPANIES: dict[str, Profile] = {
    "groq.com": replace(_KNOWN, kind="groq"),  # 25 MB a request without an account of the paid kind [doc]
    "openai.azure.com": replace(_KNOWN, kind="azure"),  # the model is the deployment's name
    "cognitiveservices.azure.com": replace(_KNOWN, kind="azure"),
    "services.ai.azure.com": replace(_KNOWN, kind="azure"),
    # Its own fields: no response_format, no prompt; times and a language exclude one another [doc].
    "mistral.ai": replace(_KNOWN, kind="mistral", plain=True, prompt=False, words=False, speakers=False),
}


def profile_for(model: str, base_url: str) -> Profile:
    """Look up what is known; ``base_url`` is complete (with its ``/v1``)."""
    host = host_of(base_url) or ""
    if host == "openai.com" or host.endswith(".openai.com"):
        families = [family for family in _OPENAI if model == family or model.startswith(f"{family}-")]
        return _OPENAI[max(families, key=len)] if families else _OPENAI_UNKNOWN
    for name, profile in _COMPANIES.items():
        if host == name or host.endswith(f".{name}"):
            return profile
    return _PRIVATE if is_private_host(host) else _FOREIGN


def host_of(base_url: str) -> str | None:
    """The host of an http(s) URL, in lower case; None if it is no such URL."""
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and parts.port != 0  # a port out of range raises
    except ValueError:
        return None
    return parts.hostname if usable else None


def is_private_host(host: str) -> bool:
    """Whether the name or address stays on this machine or network, as far as its spelling tells."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        labels = host.rstrip(".").lower().split(".")
        # A single label is a container or a machine next door; the rest are RFC 6762, 8375 and custom.
        return len(labels) == 1 or labels[-1] in {
            "localhost",
            "local",
            "lan",
            "internal",
            "home",
            "arpa",
            "test",
        }
    return address.is_private or address.is_loopback or address.is_link_local
