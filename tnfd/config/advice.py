"""What is allowed in a configuration but probably not meant: one sentence each, with what to do.

Never refuses anything; ``config check`` shows it, and ``run`` logs it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from tnfd.config.forms import lacks_path, nearest
from tnfd.config.layers import OTHER_VARIABLES, VARIABLES
from tnfd.config.schema import DEFAULT_MODELS, Config, EngineConfig
from tnfd.config.secret import base_url_of, secret_of
from tnfd.config.settings import no_engine
from tnfd.libraries import install_command, is_installed, library_of
from tnfd.rules.retired import retired_at


def warnings_of(config: Config, environ: Mapping[str, str]) -> list[str]:
    """All of them, in the order of the file.

    Raises:
        ConfigError: a key was found, and it cannot be one.
    """
    return [
        *_variables(environ),
        *_inboxes(config),
        *_nested(config),
        *(text for engine in config.engines.values() for text in _engine(engine, environ)),
        *([] if config.engines else [no_engine()]),
    ]


def _variables(environ: Mapping[str, str]) -> Iterator[str]:
    known = (*VARIABLES, *OTHER_VARIABLES)
    for name in sorted(environ):
        # TNFD_TEST_... arm fault points in tests.
        if name.startswith("TNFD_") and name not in known and not name.startswith("TNFD_TEST_"):
            yield f"the environment variable {name} sets nothing{nearest(name, known)}"


def _inboxes(config: Config) -> Iterator[str]:
    if not config.inboxes:
        yield "no inbox to watch: tnfd run needs [[inbox]] with a path, or TNFD_INBOX"
    for inbox in config.inboxes:
        target = inbox.output_root or inbox.path
        if target.is_dir() and not os.access(target, os.W_OK):
            yield f'inbox "{inbox.name}": outputs cannot be written to {target}; give this user the right to'
        names = inbox.engine or tuple(config.engines)[:1]
        english = not inbox.language or any(code.split("-")[0] == "en" for code in inbox.language)
        if not english and any(config.engines[name].type == "sphinx" for name in names):
            yield f'inbox "{inbox.name}": the sphinx engine knows English only'


def _nested(config: Config) -> Iterator[str]:
    paths = [Path(os.path.realpath(inbox.path)) for inbox in config.inboxes]
    for outer, outside in zip(config.inboxes, paths, strict=True):
        for inner, inside in zip(config.inboxes, paths, strict=True):
            # Any exclude is taken for the right one: globs are judged where they are used.
            if inside != outside and inside.is_relative_to(outside) and outer.recursive and not outer.exclude:
                yield (
                    f'inbox "{inner.name}" lies inside inbox "{outer.name}", which takes its files as well; '
                    f'give that one exclude = ["/{inside.relative_to(outside)}/**"]'
                )


def _engine(engine: EngineConfig, environ: Mapping[str, str]) -> Iterator[str]:
    name = f'engine "{engine.name}"'
    if not is_installed(engine.type):
        yield f"{name}: {library_of(engine.type)} is not installed; run: {install_command(engine.type)}"
    if engine.type != "openai":
        return
    if secret_of(engine, environ) is None:
        if engine.api_key_env:
            yield f"{name}: the environment variable {engine.api_key_env} holds no key"
        elif engine.api_key_file:
            yield f"{name}: the key file is empty"
        elif not engine.base_url:
            yield f"{name}: no key; set OPENAI_API_KEY, or api_key_file to a file of mode 0600 that holds it"
    url = base_url_of(engine, environ)
    day = None if url else retired_at(engine.model)
    if day is not None:
        yield (
            f"{name}: OpenAI shuts {engine.model} down on {day:%Y-%m-%d};"
            ' model = "gpt-transcribe" is its successor (it gives no times)'
        )
    if url and lacks_path(url):
        where = "base_url" if engine.base_url else "OPENAI_BASE_URL"
        yield f"{name}: {where} has no path, and nearly all servers want one: {url.rstrip('/')}/v1"
    if url and engine.model == DEFAULT_MODELS["openai"]:
        yield f'{name}: other servers seldom have the model "{engine.model}"; set model to one they have'
