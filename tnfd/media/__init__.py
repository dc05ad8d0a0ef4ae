"""Opening recordings: owns every touch of untrusted media, in child processes; the daemon never opens one.

``ChildMedia`` (the ``ports.Media``) runs in the daemon, talks to a long-lived *nursery* process that has PyAV
loaded, and the nursery forks one short-lived child a recording.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tnfd.media.children import ChildMedia

__all__ = ["ChildMedia"]


def __getattr__(name: str) -> object:
    # The nursery imports this package as well and has no use for asyncio (25 ms and 8 MB in every child).
    if name == "ChildMedia":
        from tnfd.media.children import ChildMedia

        return ChildMedia
    raise AttributeError(name)
