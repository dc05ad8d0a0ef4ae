"""What engines need and tnfd can do without: is a library installed, and what installs it. Imports none."""

from __future__ import annotations

import importlib.util
import shlex
import sys

# Engine type -> the module that is imported, the package that holds it.
_LIBRARIES = {"sphinx": ("pocketsphinx", "pocketsphinx"), "whisper": ("faster_whisper", "faster-whisper")}


def library_of(engine_type: str) -> str:
    """Return the name of the package that engines of this type need; empty: none."""
    return _LIBRARIES.get(engine_type, ("", ""))[1]


def is_installed(engine_type: str) -> bool:
    """Whether engines of this type have what they need."""
    module = _LIBRARIES.get(engine_type, ("", ""))[0]
    return not module or importlib.util.find_spec(module) is not None


def install_command(engine_type: str) -> str:
    """Return the command that installs the library, for a shell.

    It names the Python that runs tnfd, whose environment it has to go into, and the library itself.

    Raises:
        KeyError: engines of this type need no library.
    """
    package = _LIBRARIES[engine_type][1]
    python = shlex.quote(sys.executable)
    if importlib.util.find_spec("pip") is None:  # environments made by uv
        return f"uv pip install --python {python} {package}"
    return f"{python} -m pip install {package}"
