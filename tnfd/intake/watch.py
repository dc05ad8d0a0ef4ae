"""File events as hints: fast, and never the truth; here where there is no inotify, by way of watchfiles.

Measured with watchfiles 1.3, November 2026: events get lost when a queue overflows, when a folder is filled
as it is made, at the limit of watches, when the root is replaced; one name that is not UTF-8 ends the
watcher. So everything here may fall silent or die, and the scan makes up for it. Owns one thread for each
watcher; decides nothing about files.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

Kind = Literal["added", "modified", "deleted", "folder", "overflow"]

STEP_MS = 40  # 10 would be 50 ms faster from close to hint, and cost 0.5 % of a core when idle (measured)
DEBOUNCE_MS = 200

_FORGET_DEATH_S = 600.0
_MOST_DEATHS = 5
_REST_S = 600.0


class WatcherDied(Exception):
    """The watcher ended; the message says why.

    ``hopeless``: starting it again would end the same way. ``unreadable``: a folder below cannot be read.
    ``unproven``: it lives, but no event came when one should have.
    """

    def __init__(
        self, why: str, *, hopeless: bool = False, unreadable: bool = False, unproven: bool = False
    ) -> None:
        self.why = why
        self.hopeless = hopeless or unproven
        self.unreadable = unreadable
        self.unproven = unproven
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Hint:
    """Something happened at this path, or below it. b"" is the root itself.

    ``folder``: a folder came, and is watched by now. ``overflow``: events were lost. ``moved``: the file came
    by a rename (where that is known).
    """

    rel: bytes
    kind: Kind
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Restart:
    """Start a watcher again after this many seconds; ``degraded``: until then scanning alone has to do."""

    delay_s: float
    degraded: bool = False


def decide_restart(deaths_at: Sequence[float], now: float, *, hopeless: bool) -> Restart:
    """Decide after a death; ``deaths_at`` are the monotonic seconds of all of them, the last one included."""
    recent = sum(1 for at in deaths_at if now - at < _FORGET_DEATH_S)
    if hopeless or recent >= _MOST_DEATHS:
        return Restart(_REST_S, degraded=True)
    return Restart(0.5 * 2 ** max(0, recent - 1))


class Watcher:
    """One watcher over one folder, as an async context manager: once entered, all watches stand.

    watchfiles' blocking ``watch`` runs in a daemon thread of our own: setting up watches blocks for as
    long as the tree is deep, and neither that nor a share that hangs may stop the event loop or the end of
    the process.
    """

    def __init__(self, path: bytes, *, recursive: bool = True, skip_unreadable: bool = False) -> None:
        self._path = path
        self._recursive = recursive
        # Swallows the limit of watches as well, so it is asked for only where a folder is known to be
        # unreadable.
        self._skip_unreadable = skip_unreadable
        self._loop: asyncio.AbstractEventLoop | None = None
        self._batches: asyncio.Queue[list[Hint] | WatcherDied] = asyncio.Queue()
        self._armed = asyncio.Event()
        self._stop = threading.Event()
        prefixes = {path, os.path.realpath(path)}  # macOS reports real paths
        self._prefixes = tuple(prefix.rstrip(b"/") + b"/" for prefix in prefixes)
        self._real = os.path.realpath(path).rstrip(b"/") + b"/"

    async def __aenter__(self) -> Self:
        """Start watching.

        Raises:
            WatcherDied: it could not be started.
        """
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._work, name="watch", daemon=True).start()
        try:
            await self._armed.wait()
        except BaseException:
            self._stop.set()
            raise
        if not self._batches.empty() and isinstance(death := self._batches.get_nowait(), WatcherDied):
            raise death
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Stop watching; the thread ends by itself within a step."""
        self._stop.set()

    async def hints(self) -> list[Hint]:
        """Return the next batch of hints.

        Raises:
            WatcherDied: there will be no more.
        """
        batch = await self._batches.get()
        if isinstance(batch, WatcherDied):
            raise batch
        return batch

    def abandon(self, why: str, *, unproven: bool = False) -> None:
        """End this watcher as if it had died: it has gone blind somewhere."""
        self._batches.put_nowait(WatcherDied(why, unproven=unproven))

    def is_set(self) -> bool:
        """Answer watchfiles, which asks at every step whether to stop: so all watches stand."""
        if not self._armed.is_set():
            self._call(self._armed.set)
        return self._stop.is_set()

    def _work(self) -> None:
        died = WatcherDied("it ended without a reason")
        try:
            # Inside, because it brings anyio along, which nothing needs before the first watcher starts.
            import watchfiles

            for changes in watchfiles.watch(
                os.fsdecode(self._path),
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                stop_event=self,
                recursive=self._recursive,
                force_polling=False,
                ignore_permission_denied=self._skip_unreadable,
            ):
                known: dict[bytes, bytes] = {}
                hints = [
                    Hint(rel, change.raw_str())  # type: ignore[arg-type]
                    for change, path in changes
                    if (rel := self._relative(path, known)) is not None
                ]
                self._call(self._batches.put_nowait, hints)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            died = _died(error)
        finally:
            self._call(self._batches.put_nowait, died)
            self._call(self._armed.set)

    def _relative(self, path: str, known: dict[bytes, bytes]) -> bytes | None:
        """The path below the root by which a scan finds it; None: it lies elsewhere.

        watchfiles follows links to folders and reports what happens under one of the names that lead there: a
        link to a folder above would move the inbox under its name, out of sight. ``known``: real folders.
        """
        raw = os.fsencode(path)
        if raw in (prefix[:-1] for prefix in self._prefixes):
            return b""
        if not raw.startswith(self._prefixes):
            return None
        folder, _, name = raw.rpartition(b"/")
        if folder not in known:
            known[folder] = os.path.realpath(folder).rstrip(b"/") + b"/"
        real = known[folder] + name
        return real[len(self._real) :] if real.startswith(self._real) else None

    def _call(self, callback: object, *args: object) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(callback, *args)  # type: ignore[arg-type]


def _died(error: Exception) -> WatcherDied:
    """Translate what watchfiles 1.3 raises; it sets no errno, so the text has to do."""
    text = str(error)
    if isinstance(error, PermissionError):
        return WatcherDied(text, unreadable=True)
    if "watch limit" in text:
        why = "the limit of file watches is reached; raise the sysctl fs.inotify.max_user_watches"
        return WatcherDied(why, hopeless=True)
    if "Too many open files" in text:
        why = "no inotify instance is left; raise the sysctl fs.inotify.max_user_instances"
        return WatcherDied(why, hopeless=True)
    # A name that is not UTF-8 is a RuntimeError when it turns up, a ValueError or TypeError in the root's
    # path.
    return WatcherDied(text, hopeless=isinstance(error, (ValueError, TypeError)))
