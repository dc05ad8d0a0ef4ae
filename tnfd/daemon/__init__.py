"""The long-running way to use the house: one process that watches, works, answers, reloads, drains."""

from tnfd.daemon.process import run_daemon

__all__ = ["run_daemon"]
