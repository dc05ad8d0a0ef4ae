"""One engine: is it installed, is there a key, does its server answer, know the model, and for how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from tnfd.config import Config, EngineConfig, base_url_of, secret_of
from tnfd.doctor.finding import Finding, Hangs, Mark, within
from tnfd.doctor.server import Fetch, Reply
from tnfd.engines.kinds import refine
from tnfd.engines.profiles import OPENAI_URL, host_of, profile_for
from tnfd.engines.whisper_models import find_folder
from tnfd.errors import ConfigError, Fault
from tnfd.libraries import install_command, is_installed, library_of
from tnfd.rules.nearby import surely_elsewhere
from tnfd.rules.retired import retired_at
from tnfd.wiring import models_dir, preflight

_NOTHING = "nothing is transcribed by this engine until then"
_ASK_S = 5.0
_LISTED = 5
_LONG_S = 3600.0


def check_engine(
    engine: EngineConfig, config: Config, environ: Mapping[str, str], now: datetime, ask: Fetch
) -> Iterator[Finding]:
    """Everything about one engine. ``ask`` gets the server's list of models."""
    area = f"engine {engine.name}"
    if engine.type == "whisper":
        yield from _whisper(area, engine, config, environ)
        return
    if engine.type != "openai":
        yield _installed(area, engine.type)
        return
    url = base_url_of(engine, environ) or OPENAI_URL
    own = _is_openai(url)
    try:
        secret = secret_of(engine, environ)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding(area, Mark.FAIL, problem.message, _NOTHING, "tnfd config check")
        return
    if secret is not None:
        yield Finding(area, Mark.OK, f"the key comes from {secret.source}")
    elif own or engine.api_key_env or engine.api_key_file:
        what = f"no key: ${engine.api_key_env} is empty" if engine.api_key_env else "no key"
        mend = "read -rs OPENAI_API_KEY && export OPENAI_API_KEY   # or api_key_file in the configuration"
        yield Finding(area, Mark.FAIL, what, _NOTHING, mend)
        return
    if own:
        yield from _retiring(area, engine.model, now)
    local_only = config.privacy.local_only
    if local_only and surely_elsewhere(host_of(url) or ""):
        why = "local_only keeps everything on private addresses"
        yield Finding(area, Mark.FAIL, f"{url} is not a private address", why, "tnfd config show")
        return
    key = None if secret is None else secret.reveal()
    try:
        reply = within(2 * _ASK_S, lambda: ask(f"{url.rstrip('/')}/models", key, _ASK_S, local_only))
    except Hangs:
        reply = Reply(0, f"no answer within {2 * _ASK_S:.0f} s")
    yield _answered(area, engine.model, url, reply, own=own)
    if reply.status == 200 or reply.kind:
        yield _taken(area, engine, url, reply)


def _installed(area: str, engine_type: str) -> Finding:
    library = library_of(engine_type)
    if is_installed(engine_type):
        return Finding(area, Mark.OK, f"{library} is installed")
    return Finding(area, Mark.FAIL, f"{library} is not installed", _NOTHING, install_command(engine_type))


def _whisper(
    area: str, engine: EngineConfig, config: Config, environ: Mapping[str, str]
) -> Iterator[Finding]:
    """Library, model files, device. Loads nothing."""
    found = _installed(area, engine.type)
    yield found
    if found.mark is Mark.FAIL:
        return
    try:
        preflight(engine, config, environ)
    except Fault as fault:
        yield Finding(area, Mark.FAIL, fault.message, _NOTHING, fault.hint)
        return
    folder = find_folder(engine.model, models_dir(config), environ)
    if folder is None:
        what = f"{engine.model} is not here yet; it is downloaded for the first recording"
        yield Finding(area, Mark.WARN, what, "that takes minutes, and the network", "tnfd status")
    else:
        size = (folder / "model.bin").stat().st_size
        yield Finding(area, Mark.OK, f"{engine.model} is whole, {size / 1e6:.0f} MB in {folder}")
    cards = sorted(Path("/dev").glob("nvidia[0-9]*"))
    if engine.device == "cuda" and not cards:
        mend = 'set device = "auto", then: tnfd config check'
        yield Finding(area, Mark.FAIL, 'device = "cuda", and no graphics card is to be seen', _NOTHING, mend)
    else:
        where = f"{len(cards)} graphics card(s)" if cards and engine.device != "cpu" else "the processor"
        yield Finding(area, Mark.OK, f"it will run on {where}, compute_type {engine.compute_type}")


def _taken(area: str, engine: EngineConfig, url: str, reply: Reply) -> Finding:
    """What this server takes, as far as is known."""
    profile = profile_for(engine.model, url)
    if profile.kind == "unknown" and reply.kind:
        profile = refine(profile, reply.kind)
    times = "segments only" if profile.plain or not profile.words else "segments and words"
    if not profile.plain and "verbose_json" not in profile.formats:
        times = "none"
    longest = f", {profile.max_s / 60:.3g} min" if profile.max_s < _LONG_S else ""
    learns = "; what it refuses is learned as it comes" if profile.kind == "unknown" else ""
    at_once = engine.max_concurrency or profile.max_concurrency
    what = (
        f"taken for {profile.kind}: times {times}; requests up to {profile.max_bytes / 1e6:.0f} MB{longest};"
        f" {at_once} at once{learns}"
    )
    return Finding(area, Mark.OK, what)


def _is_openai(url: str) -> bool:
    host = host_of(url) or ""
    return host == "openai.com" or host.endswith(".openai.com")


def _retiring(area: str, model: str, now: datetime) -> Iterator[Finding]:
    day = retired_at(model)
    if day is None:
        return
    mend = 'set model = "gpt-transcribe", then: tnfd config check'
    if now < day:
        why = "requests fail from that day on; gpt-transcribe gives no times, so plan for subtitles"
        yield Finding(area, Mark.WARN, f"OpenAI shuts {model} down on {day:%Y-%m-%d}", why, mend)
    else:
        yield Finding(area, Mark.FAIL, f"OpenAI has shut {model} down on {day:%Y-%m-%d}", _NOTHING, mend)


def _answered(area: str, model: str, url: str, reply: Reply, *, own: bool) -> Finding:
    if reply.status == 0:
        mend = f"curl -sS -m 5 {url.rstrip('/')}/models"
        return Finding(area, Mark.FAIL, f"{url} cannot be reached: {reply.reason}", _NOTHING, mend)
    if reply.status in (401, 403):
        what = f"{url} refuses the key ({reply.status})" if own else f"{url} wants a key ({reply.status})"
        return Finding(area, Mark.FAIL, what, _NOTHING, "put a valid key in place, then: tnfd doctor")
    if reply.status // 100 == 3:
        why = "redirects are never followed: they would carry the key to another host"
        return Finding(
            area, Mark.FAIL, f"{url} redirects elsewhere", why, "write the final address into base_url"
        )
    if reply.status != 200 or reply.models is None:
        why = "it may transcribe all the same; if it does not, base_url may lack its /v1"
        what = f"{url} answers, but has no list of models ({reply.status})"
        return Finding(area, Mark.WARN, what, why, "tnfd config show")
    if model in reply.models:
        return Finding(area, Mark.OK, f"{url} answers and has {model}")
    named = ", ".join(reply.models[:_LISTED]) or "none"
    more = f" and {len(reply.models) - _LISTED} more" if len(reply.models) > _LISTED else ""
    what = f"{url} does not list {model}" + ("" if own else f", but {named}{more}")
    why = _NOTHING if own else "some servers take models that they do not list, others refuse every request"
    return Finding(area, Mark.FAIL if own else Mark.WARN, what, why, "set model in the engine's section")
