"""Which names a folder already holds, folded, without listing large folders again and again.

A cache only: whether a name is really free is decided by the file system when the file gets its name.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass

from tnfd.outputs.write import fault_of_write, list_names
from tnfd.ports.clock import Clock
from tnfd.rules.names import fold

_FOLDERS = 8  # remembered at once
_SHARE = 20  # at most a twentieth of the time goes into listing one folder


@dataclass(frozen=True, slots=True)
class _Listing:
    names: frozenset[str]
    mtime_ns: int
    stale_at: float  # monotonic seconds


class TakenNames:
    """Folded names by folder; thread-safe, blocking.

    A folder whose mtime is unchanged is not listed again. One that changes all the time (ours do, with each
    output) is listed again only after 20 times as long as the last listing took: 100,000 files take 0.3 s,
    so that a listing for each of as many outputs would take hours.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._listings: OrderedDict[tuple[int, int], _Listing] = OrderedDict()

    def folded(self, dir_fd: int) -> frozenset[str]:
        """Return the folded names in a folder.

        Raises:
            Fault: ``output.unwritable`` or ``output.io``.
        """
        try:
            return self._folded(dir_fd)
        except OSError as error:
            raise fault_of_write(error) from error

    def _folded(self, dir_fd: int) -> frozenset[str]:
        st = os.fstat(dir_fd)
        key = (st.st_dev, st.st_ino)
        begun = self._clock.monotonic()
        with self._lock:
            known = self._listings.get(key)
        if known is not None and (known.mtime_ns == st.st_mtime_ns or begun < known.stale_at):
            return known.names
        names = frozenset(map(fold, list_names(dir_fd)))
        ended = self._clock.monotonic()
        with self._lock:
            self._listings[key] = _Listing(names, st.st_mtime_ns, ended + _SHARE * (ended - begun))
            self._listings.move_to_end(key)
            while len(self._listings) > _FOLDERS:
                self._listings.popitem(last=False)
        return names
