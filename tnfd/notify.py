"""Tells the service manager how the process does: sd_notify(3) in a few lines, silent where nobody listens.

Owns the datagram socket. What is said, and when, is for the daemon to decide.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Sends states to ``$NOTIFY_SOCKET``. ``watchdog_s``: a sign of life is expected so often; None: none."""

    def __init__(self, address: str, watchdog_s: float | None) -> None:
        self._address = address
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Notifier:
        """Find out who listens. The watchdog is ours only if ``WATCHDOG_PID`` says so."""
        wanted = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog_s = int(wanted) / 1e6 if ours and wanted.isdigit() and int(wanted) else None
        return cls(environ.get("NOTIFY_SOCKET", ""), watchdog_s)

    @property
    def heard(self) -> bool:
        """Whether somebody listens."""
        return bool(self._address)

    def send(self, **states: str | int) -> None:
        """Send states in one message: ``send(READY=1, STATUS="...")``. Never waits and never fails."""
        if not self._address:
            return
        text = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in states.items())
        # A name that begins with @ stands for the abstract namespace (sd_notify(3)).
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            line.sendto(text.encode("utf-8", "backslashreplace"), address)

    def reloading(self) -> None:
        """Say that the configuration is being read; READY=1 ends it. The moment is for systemd 253."""
        moment_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.send(RELOADING=1, MONOTONIC_USEC=moment_us)
