"""``[privacy] local_only``: engines that could not obey it, by what is written. Resolves no name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from tnfd.config.schema import Config, EngineConfig
from tnfd.config.secret import base_url_of
from tnfd.rules.nearby import surely_elsewhere


def beyond(config: Config, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Keys, and what is wrong with them."""
    if not config.privacy.local_only:
        return
    for engine in config.engines.values():
        if engine.type == "openai":
            yield from _server(engine, environ)
        elif engine.download and surely_elsewhere(
            _host(environ.get("HF_ENDPOINT") or "https://huggingface.co")
        ):
            message = "local_only refuses downloads; copy the model here, and set model to its folder"
            yield f"engines.{engine.name}.download", message


def _server(engine: EngineConfig, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    url = base_url_of(engine, environ)
    host = _host(url) if url else "api.openai.com"
    if surely_elsewhere(host):
        key = "base_url" if engine.base_url else "type"
        message = f"local_only allows loopback and private addresses alone, and this leads to {host}"
        yield f"engines.{engine.name}.{key}", message


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""  # reported as no URL
