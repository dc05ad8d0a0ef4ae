"""The property list for launchd (macOS), made with plistlib from the same facts as the units.

Checked for its keys and types on Linux; see launchd.plist(5). launchd has no exit code after which it
leaves a job alone, so ``run`` leaves with 0 after a mistake in the configuration when launchd started it.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tnfd.service.target import LABEL, MARK, Target

_THROTTLE_S, _STOP_S = 30, 45


def property_list(target: Target, command: tuple[str, ...], config_file: Path | None, *, key: bool) -> str:
    """The whole file. ``key``: one is kept for this service."""
    variables = {"PYTHONFAULTHANDLER": "1", "PATH": "/usr/local/bin:/opt/homebrew/bin:/usr/bin:/bin"}
    if config_file is not None:
        variables["TNFD_CONFIG"] = str(config_file)
    if key:
        variables["CREDENTIALS_DIRECTORY"] = str(target.key_file.parent)
    content: dict[str, Any] = {
        "Label": LABEL,
        "ProgramArguments": [*command, "run"],
        "EnvironmentVariables": variables,
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": _THROTTLE_S,
        "ExitTimeOut": _STOP_S,
        "ProcessType": "Background",
        "LowPriorityIO": True,
        "Nice": 10,
        "Umask": 0o077,
        "WorkingDirectory": str(target.owner.home),
        "StandardOutPath": str(target.log_file),
        "StandardErrorPath": str(target.log_file),
    }
    if target.system:
        content["UserName"] = target.owner.name
    head, _, rest = plistlib.dumps(content, sort_keys=False).decode().partition("<plist")
    return f"{head}<!-- {MARK}. -->\n<plist{rest}"


def domain_of(target: Target) -> str:
    """Where launchctl looks for it."""
    return "system" if target.system else f"gui/{target.owner.uid}"


def started_by_launchd(environ: Mapping[str, str]) -> bool:
    """Whether launchd started this very process as our job."""
    return environ.get("XPC_SERVICE_NAME") == LABEL
