"""Decoders: whether the kernel keeps them in. Tries the walls on a process of its own."""

from __future__ import annotations

import subprocess
import sys

from tnfd import confine
from tnfd.doctor.finding import Finding, Mark

_PATIENCE_S = 20.0


def check_media() -> Finding:
    """Whether processes that open recordings have no sockets, programs and other files."""
    try:
        tried = subprocess.run(  # our own module, by our own Python
            [sys.executable, "-I", confine.__file__], stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_PATIENCE_S, check=True, text=True,
        )  # fmt: skip
        missing = tried.stdout.split("\n")
    except (OSError, subprocess.SubprocessError) as error:
        missing = [f"it cannot be tried: {type(error).__name__}"]
    return finding_of([line for line in missing if line])


def finding_of(missing: list[str]) -> Finding:
    """What it means that these walls are missing."""
    if not missing:
        return Finding("decoders", Mark.OK, "they can open no socket, no program and no other file")
    why = (
        "a recording made to break a decoder would meet fewer walls; memory, time and files are bounded still"
    )
    mend = "uname -r   # Linux 5.13 with seccomp and Landlock has both; containers may hide them"
    return Finding("decoders", Mark.WARN, "; ".join(missing), why, mend)
