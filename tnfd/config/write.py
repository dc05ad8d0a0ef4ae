"""Writing a starter configuration: its text, and putting it on disk in one step.

Writes nothing but the file it is told to, and never over one that it was not told to replace.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from tnfd.config.schema import DEFAULT_MODELS, FORMATS, keys_of_type
from tnfd.config.show import assignment

_ENGINE_COMMENTS = {
    "openai": "Recordings are uploaded to OpenAI.",
    "whisper": "Runs on this machine, nothing is uploaded.",
    "sphinx": "Runs on this machine, nothing is uploaded; English, draft quality.",
}
_SERVER_COMMENT = "Recordings are uploaded to this server, which speaks OpenAI's API, and nowhere else."
KEY_FILE = "openai-api-key"


def starter_text(inbox: Path, engine: str, key_file: Path, *, base_url: str = "", model: str = "") -> str:
    """The text of a first configuration.

    ``engine`` is one of ENGINE_TYPES, or any name together with the ``base_url`` of a server that speaks the
    API; ``model`` empty: the default one.

    Raises:
        UnicodeEncodeError: the inbox's path is not UTF-8, and TOML is.
    """
    written = str(inbox)
    written.encode()
    engine_type = "openai" if base_url else engine
    comment = _SERVER_COMMENT if base_url else _ENGINE_COMMENTS[engine]
    lines = [
        "# The configuration of tnfd. What is not written here has its default; all of it: tnfd config show",
        "# After a change: tnfd config check",
        "",
        "[[inbox]]",
        "# Every recording below this folder is transcribed; its transcript is written beside it.",
        assignment("path", written),
        f"# Some of: {', '.join(FORMATS)}",
        assignment("formats", ["txt"]),
        '# "auto", a code such as "en", or a list of codes',
        assignment("language", "auto"),
        "",
        f"[engines.{engine}]",
        f"# {comment}",
        assignment("type", engine_type),
    ]
    if "model" in keys_of_type(engine_type):
        lines.append(assignment("model", model or DEFAULT_MODELS[engine_type]))
    if engine_type == "whisper":
        lines += [
            "# Fetches the model once, if it is not on this machine yet. false: put its folder into model.",
            assignment("download", True),
        ]
    if base_url:
        lines += [
            assignment("base_url", base_url),
            "# If the server wants a key, a file that holds it and nothing else, mode 0600:",
            f"# {assignment('api_key_file', str(key_file.with_name(f'{engine}-api-key')))}",
        ]
    elif engine == "openai":
        lines += [
            "# Without it $OPENAI_API_KEY is taken. A file that holds the key and nothing else, mode 0600:",
            f"# {assignment('api_key_file', str(key_file))}",
            "",
            "[budget]",
            "# Dollars a day. Reached: jobs wait until the next day, nothing fails. 0: no limit.",
            assignment("daily_usd", 10),
        ]
    return "\n".join(lines) + "\n"


def write_private(path: Path, content: bytes, *, replace: bool) -> None:
    """Write a file of mode 0600 so that it is there whole or not at all; missing folders are made (0700).

    Raises:
        FileExistsError: there is one, and ``replace`` is false.
        OSError: it cannot be written.
    """
    _make_folders(path.parent)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        with open(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
        ) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            _put(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _put(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)  # unlike a rename this never replaces
    except FileExistsError:
        raise
    except OSError:
        # File systems without hard links (exFAT, some shares).
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.rename(temporary, path)


def _make_folders(folder: Path) -> None:
    # The XDG specification wants 0700; makedirs gives its mode to the last folder only.
    for missing in [part for part in (folder, *folder.parents) if not part.exists()][::-1]:
        missing.mkdir(0o700, exist_ok=True)
