"""macOS keeps programs out of some folders until their user allows it; which, and whom to allow. Pure."""

from __future__ import annotations

import errno
from pathlib import Path

from tnfd.doctor.finding import Finding, Mark

_GUARDED = ("Documents", "Desktop", "Downloads", "Library/CloudStorage", "Library/Mobile Documents")
_SETTINGS = "open 'x-apple.systempreferences:com.apple.preference.security?Privacy_AllFiles'"


def guarded(path: Path, home: Path) -> bool:
    """Whether macOS guards the folder (TCC): it then refuses a service although permissions allow."""
    return any(path.is_relative_to(home / name) for name in _GUARDED) or path.is_relative_to("/Volumes")


def blocked(area: str, path: Path, error: OSError, program: str) -> Finding | None:
    """What an error says about macOS's privacy protection; ``program``: the Python that runs tnfd."""
    if error.errno != errno.EPERM:
        return None
    why = f"macOS keeps programs out of this folder until you allow it; the program to allow is {program}"
    return Finding(area, Mark.FAIL, f"{path} is kept from tnfd by macOS", why, _SETTINGS)


def warned(area: str, path: Path, home: Path, program: str) -> Finding | None:
    """What to expect of a folder that can be read from a terminal, which has rights of its own."""
    if not guarded(path, home):
        return None
    why = f"a service has not the rights of your terminal; allow {program} under Full Disk Access"
    return Finding(area, Mark.WARN, f"macOS guards {path}", why, _SETTINGS)
