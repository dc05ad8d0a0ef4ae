"""Named steps at which tests can stop the process for good; unarmed (outside of tests) they do nothing.

``TNFD_TEST_KILL_AT=name`` or ``name:3`` (the third time) sends SIGKILL to the own process at that step,
as a power cut would. A step is named ``room.fact``, for the moment right after the fact.
"""

from __future__ import annotations

import os
import signal

_ARMED, _, _count = os.environ.get("TNFD_TEST_KILL_AT", "").partition(":")
_left = int(_count or 1)


def reach(name: str) -> None:
    """Say that the step ``name`` has just happened."""
    global _left
    if name == _ARMED:
        _left -= 1
        if _left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
