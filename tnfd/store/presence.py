"""Which processes live: each holds a lock on a file of its own as long as it exists.

A lock tells for certain, across crashes, suspended laptops and clock jumps; a time-out can only guess.
The state folder is on a local disk, where locks work.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
from pathlib import Path

from tnfd.errors import AlreadyRunning, StoreUnusable

_SUFFIX = ".lock"
_TRIES, _TRY_S = 20, 0.05


class Presence:
    """The locks below ``state_dir/locks``."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "locks"
        self._held: list[int] = []

    def announce(self, owner: str) -> None:
        """Hold a lock in this process's name until it ends.

        Raises:
            StoreUnusable: the state folder cannot be written to.
        """
        path, found = self._path(owner), False
        while not found:
            try:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise _unwritable(self._folder.parent, error) from error
            self._held.append(fd)
            _take(fd)
            # Another's `sweep` may have taken the file for a dead one's before it was locked.
            with contextlib.suppress(FileNotFoundError):
                found = os.path.samestat(os.fstat(fd), path.stat())

    def lives(self, owner: str) -> bool:
        """Whether the process that announced itself as ``owner`` still exists; a dead one's file goes."""
        path = self._path(owner)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return False
        finally:
            os.close(fd)

    def sweep(self) -> None:
        """Remove what processes left that were killed while the database did not know of them."""
        for path in self._folder.glob(f"*{_SUFFIX}"):
            self.lives(path.name.removesuffix(_SUFFIX))

    def leave(self) -> None:
        """Let go of everything held."""
        while self._held:
            os.close(self._held.pop())

    def _path(self, owner: str) -> Path:
        return self._folder / f"{owner}{_SUFFIX}"


def lock_daemon(state_dir: Path) -> int:
    """Take the one lock that a daemon holds on its state folder; the descriptor must stay open.

    Raises:
        AlreadyRunning: another daemon holds it.
        StoreUnusable: the state folder cannot be written to.
    """
    try:
        fd = os.open(state_dir / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(state_dir, error) from error
    try:
        _take(fd)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).strip()
        os.close(fd)
        raise AlreadyRunning(state_dir, int(text) if text.isdigit() else None) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _unwritable(state_dir: Path, error: OSError) -> StoreUnusable:
    return StoreUnusable(f"the state folder {state_dir} cannot be written to: {error.strerror}")


def _take(fd: int) -> None:
    """Lock for good. Whoever only looks who runs holds it for a moment, so one refusal says little."""
    for _ in range(_TRIES - 1):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            select.select((), (), (), _TRY_S)
        else:
            return
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def daemon_pid(state_dir: Path) -> int | None:
    """The pid of the daemon that holds the state folder, or None."""
    try:
        fd = os.open(state_dir / "daemon.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).strip()
        return int(text) if text.isdigit() else 0
    else:
        return None
    finally:
        os.close(fd)
