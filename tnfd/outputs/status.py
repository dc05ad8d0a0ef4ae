"""Status files on disk: writes over our own ones alone, removes our own ones alone, reads any.

Blocking, as ``outputs.write``. What stands in them is decided in ``rules.status`` and ``rules.adopt``.
"""

from __future__ import annotations

import hashlib
import os

from tnfd.errors import Fault
from tnfd.outputs.write import read_file, remove_file, write_file
from tnfd.rules.adopt import MAX_STATUS_BYTES, ForeignStatus, parse_status, status_owner


def write_status(
    dir_fd: int,
    name: bytes,
    data: bytes,
    *,
    job: str,
    source_name: bytes,
    mode_from: os.stat_result | None = None,
) -> str:
    """Write a rendered status file as ``name`` and return its sha256.

    Replaces only a status file (of our schema) of this job or of a source with this name, be it one of a
    former job or of a tnfd whose state folder was lost.

    Raises:
        NameTaken: the name belongs to anything else; nothing was changed.
        Fault: ``output.disk_full``, ``output.unwritable`` or ``output.io``.
    """
    own = _own(dir_fd, name, job, source_name)
    return write_file(dir_fd, name, data, job=job, mode_from=mode_from, own=own)


def remove_status(dir_fd: int, name: bytes, *, job: str, source_name: bytes) -> bool:
    """Remove a status file that ``write_status`` would replace; False if there is none of that kind.

    Raises:
        Fault: as ``write_status``.
    """
    return remove_file(dir_fd, name, own=_own(dir_fd, name, job, source_name))


def read_status(dir_fd: int, name: bytes) -> ForeignStatus | None:
    """Return what the status file ``name`` says; None if there is none, or if it is not sound.

    Raises:
        Fault: ``output.unwritable`` (not permitted) or ``output.io``.
    """
    data = read_file(dir_fd, name, max_bytes=MAX_STATUS_BYTES)
    return None if data is None else parse_status(data)


def _own(dir_fd: int, name: bytes, job: str, source_name: bytes) -> tuple[str, ...]:
    """Return the sha256 of what lies there if it is ours to replace."""
    try:
        data = read_file(dir_fd, name, max_bytes=MAX_STATUS_BYTES)
    except Fault as fault:
        if fault.code == "output.unwritable":
            return ()  # not readable, so not ours as far as we can tell
        raise
    owner = None if data is None else status_owner(data)
    if data is None or owner is None or (owner[0] != job and owner[1] != source_name):
        return ()
    return (hashlib.sha256(data).hexdigest(),)
