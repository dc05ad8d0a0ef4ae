"""What ``tnfd init`` asks: which engine, which server, which folder; again, until the answer will do.

Where nobody can be asked, flags decide, or the command ends as wrong usage. Makes nothing but the folder that
it was told to make.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import typer

from tnfd.cli.options import EXIT_USAGE, at_a_terminal
from tnfd.cli.prose import object_to, tell

SERVER = "server"  # not a type of its own: [engines.server] with type = "openai" and an address

_CHOICES = {
    "openai": "uploads to OpenAI; best quality; about $0.27 an hour; needs a key",
    SERVER: "a server that speaks OpenAI's API: yours, or another company's",
    "whisper": "on this machine; good quality; free; fetches its model once",
    "sphinx": "on this machine; English, draft quality; free; needs pocketsphinx",
}
_INDENT = 12
_USUAL_FOLDERS = ("~/Recordings", "~/Dropbox/Recordings", "~/Nextcloud/Recordings", "~/Sync/Recordings")
_ADDRESS = "http://127.0.0.1:8000/v1"


@dataclass(frozen=True, slots=True)
class Chosen:
    """One of ``engine_choices()``; ``base_url`` for a server alone; ``model`` empty: the default one."""

    name: str
    base_url: str = ""
    model: str = ""


def engine_choices() -> tuple[str, ...]:
    """What can be chosen in this version."""
    from tnfd.config import available_engines

    usable = (*available_engines(), SERVER)
    return tuple(name for name in _CHOICES if name in usable)


# -- the engine ------------------------------------------------------------------------------------------


def choose_engine(name: str | None, base_url: str | None, model: str | None) -> Chosen:
    """The engine that flags name, or that somebody chooses. An address alone names a server."""
    if name is None and base_url is not None:
        name = SERVER
    name = _asked_engine() if name is None else _checked_engine(name)
    if name == SERVER:
        return _server(base_url, model)
    if base_url is not None:
        _refuse(f"--base-url belongs to --engine {SERVER}, not to {name}")
    if model is not None:
        from tnfd.config.schema import keys_of_type

        if "model" not in keys_of_type(name):
            _refuse(f"--model: {name} has one model, which nobody chooses")
        _refuse_model(model)
    return Chosen(name, "", model or "")


def _refuse(text: str, *choices: str) -> NoReturn:
    object_to(text)
    for choice in choices:
        object_to(choice, hang=_INDENT)
    raise typer.Exit(EXIT_USAGE)


def _listed() -> list[str]:
    from tnfd.libraries import is_installed

    # Whisper is offered where its library is; named, it is taken anyway, and what to install is said.
    offered = [name for name in engine_choices() if name != "whisper" or is_installed(name)]
    return [f"  {name:<8}  {_CHOICES[name]}" for name in offered]


def _checked_engine(name: str) -> str:
    from tnfd.config import ENGINE_TYPES

    if name not in engine_choices():
        why = "is not available yet in this version" if name in ENGINE_TYPES else "is not an engine"
        _refuse(f'--engine: "{name}" {why}. Choose one of:', *_listed())
    return name


def _asked_engine() -> str:
    if not at_a_terminal():
        _refuse(
            "An engine has to be chosen, none is ever guessed: --engine NAME. NAME is one of:", *_listed()
        )
    tell("What shall transcribe your recordings?")
    for choice in _listed():
        tell(choice, hang=_INDENT)
    while True:
        answer = _answer("Engine").lower()
        if answer in engine_choices():
            return answer
        tell(f"Please type one of: {', '.join(engine_choices())}")


def _server(base_url: str | None, model: str | None) -> Chosen:
    from tnfd.config.forms import check_base_url

    if base_url is not None:
        complaint = check_base_url(base_url) if base_url else f"expected a URL such as {_ADDRESS}"
        if complaint:
            _refuse(f"--base-url: {complaint}")
    if model is not None:
        _refuse_model(model)
    if not at_a_terminal() and (base_url is None or model is None):
        _refuse(
            f"--engine {SERVER} needs --base-url URL, such as {_ADDRESS}, and --model NAME, as that server"
            " calls it"
        )
    return Chosen(SERVER, base_url or _asked_address(), model or _asked_model())


def _refuse_model(model: str) -> None:
    complaint = _model_complaint(model)
    if complaint:
        _refuse(f"--model: {complaint}")


def _model_complaint(model: str) -> str | None:
    from tnfd.config.forms import check_label

    return check_label(model) if model.strip() else "expected a model's name"


def _asked_address() -> str:
    from tnfd.config.forms import check_base_url, lacks_path

    while True:
        url = _answer(f"Its address, such as {_ADDRESS}")
        complaint = check_base_url(url)
        if complaint:
            tell(f"{complaint[0].upper()}{complaint[1:]}.")
            continue
        if lacks_path(url):
            tell("Nearly all servers have their API below /v1.")
            if _agreed(f"Take {url.rstrip('/')}/v1?"):
                return f"{url.rstrip('/')}/v1"
        return url


def _asked_model() -> str:
    while True:
        model = _answer("Model, as that server calls it")
        complaint = _model_complaint(model)
        if not complaint:
            return model
        tell(f"{complaint[0].upper()}{complaint[1:]}.")


# -- the folder ------------------------------------------------------------------------------------------


def choose_inbox(given: Path | None, environ: Mapping[str, str]) -> tuple[Path, bool]:
    """The folder, absolute, and whether it was made just now: it is where somebody agreed to that."""
    if given is not None:
        folder = _absolute(str(given), environ)
        complaint = _complaint(folder)
        if complaint:
            _refuse(f"--inbox: {complaint}")
        return folder, False
    usual = [_absolute(folder, environ) for folder in _USUAL_FOLDERS]
    default = next((folder for folder in usual if folder.is_dir()), usual[0])
    if not at_a_terminal():
        return default, False
    while True:
        folder = _absolute(_answer("Folder to watch", str(default)), environ)
        trouble = _trouble(folder, default, environ)
        if trouble:
            tell(f"{trouble}\nPlease name another one.")
        elif folder.is_dir():
            return folder, False
        elif _agreed_to_make(folder):
            return folder, True


def _agreed_to_make(folder: Path) -> bool:
    tell(f"{folder} does not exist.")
    if not _agreed("Make it?"):
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        tell(f"It cannot be made: {error.strerror}. Please name another one.")
        return False
    return True


def _absolute(written: str, environ: Mapping[str, str]) -> Path:
    from tnfd.config.kinds import absolute
    from tnfd.config.places import here

    return absolute(written, here(environ))


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next((path for path in (folder, *folder.parents) if os.path.lexists(path)), Path("/"))


def _complaint(folder: Path) -> str | None:
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        return f"the path is not UTF-8, and a TOML file has to be: {os.fsencode(folder)!r}"
    found = _existing(folder)
    if not os.path.exists(found):
        return f"a link that leads nowhere: {found}"
    if not os.path.isdir(found):
        return f"expected a folder, found a file: {found}"
    return None


def _trouble(folder: Path, example: Path, environ: Mapping[str, str]) -> str | None:
    """Say why this cannot be an inbox, in plain words."""
    from tnfd.config import Config, DaemonConfig, InboxConfig
    from tnfd.config.places import default_state_dir, overlaps

    complaint = _complaint(folder)
    if complaint:
        return f"{complaint[0].upper()}{complaint[1:]}."
    state_dir, _ = default_state_dir(environ)
    planned = Config(daemon=DaemonConfig(state_dir=state_dir), inboxes=(InboxConfig(path=folder),))
    if any(overlaps(planned)):
        return (
            f"tnfd keeps its own files in {state_dir}, so it cannot watch {folder}."
            f" Recordings need a folder of their own, such as {example}."
        )
    found = _existing(folder)
    if os.access(found, os.R_OK | os.W_OK | os.X_OK):
        return None
    if found == folder:
        return f"You may not read and write in {folder}, and the transcripts go there too."
    return f"{folder} cannot be made: you may not write in {found}."


# -- answers ---------------------------------------------------------------------------------------------


def _answer(question: str, default: str | None = None) -> str:
    while True:
        answer = str(typer.prompt(question, default=default)).strip()
        if answer:
            return answer


def _agreed(question: str) -> bool:
    while True:
        answer = str(typer.prompt(f"{question} [Y/n]", default="y", show_default=False)).strip().lower()
        if answer in ("y", "yes"):
            return True
        if answer in ("n", "no"):
            return False
        tell("Please type y or n.")
