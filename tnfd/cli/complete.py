"""What the shell may offer behind an option: states, inboxes, engines. Says nothing rather than fail."""

from __future__ import annotations

import os


def states(incomplete: str) -> list[str]:
    """States of jobs."""
    from tnfd.model import JobState

    return [state.value for state in JobState if state.startswith(incomplete)]


def inboxes(incomplete: str) -> list[str]:
    """Names of configured inboxes."""
    return [name for name in _configured()[0] if name.startswith(incomplete)]


def engines(incomplete: str) -> list[str]:
    """Names of configured engines."""
    return [name for name in _configured()[1] if name.startswith(incomplete)]


def _configured() -> tuple[list[str], list[str]]:
    from tnfd.config import load_config
    from tnfd.errors import ConfigError

    try:
        # --config further left on the line is not seen here; $TNFD_CONFIG is.
        config = load_config(None, os.environ, places=False)
    except (ConfigError, OSError):
        return [], []
    return [inbox.name for inbox in config.inboxes], list(config.engines)
