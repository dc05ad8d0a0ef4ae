"""The daemon's end of the nursery: starts it when needed, hands it work, hears how each child ended.

Owns the nursery process and the control socket. Knows nothing of media, reads nothing that a child wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tnfd.errors import Fault
from tnfd.media.wire import RECORD_BYTES, Op, Record

# What the nursery's Python and its libraries need to start; above all no keys and no proxies.
_PASSED_ON = (
    "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH",
    "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX",
)  # fmt: skip

_WALLS = {1: "seccomp", 2: "Landlock"}
_log = structlog.get_logger("tnfd.media")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: a wait status, or the errno of a fork that failed; neither: the nursery died."""

    status: int | None = None
    errno: int | None = None


@dataclass(frozen=True, slots=True)
class Child:
    """One child. ``reply`` is a non-blocking socket that the caller owns; ``ended`` is never cancelled."""

    task: int
    reply: socket.socket
    ended: asyncio.Future[Ended]


class Keeper:
    """Keeps at most one nursery. All methods belong to one event loop."""

    def __init__(self) -> None:
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._heard = b""
        self._children: dict[int, Child] = {}
        self._last_task = 0
        self._told = False  # that something does not keep the children in

    @property
    def pid(self) -> int | None:
        """The nursery's process id; None while there is none."""
        return self._process.pid if self._process is not None and self._control is not None else None

    async def spawn(
        self, order: bytes, source_fd: int, scratch_fd: int, on_end: Callable[[Child], None]
    ) -> Child:
        """Have one child made for ``order``; both descriptors stay the caller's.

        ``on_end`` is called once, after ``ended`` is set.

        Raises:
            Fault: ``media.crashed`` if there is no nursery to be had.
        """
        await self.start()
        assert self._control is not None  # noqa: S101  no await since
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            ours.send(order)
            self._last_task = (self._last_task + 1) % 2**32
            record = Record(Op.SPAWN, self._last_task)
            socket.send_fds(self._control, [record.pack()], [theirs.fileno(), source_fd, scratch_fd])
        except OSError as error:
            ours.close()
            raise Fault("media.crashed", f"the media process takes no work: {error.strerror}") from error
        finally:
            theirs.close()
        child = Child(self._last_task, ours, asyncio.get_running_loop().create_future())
        child.ended.add_done_callback(lambda _: on_end(child))
        self._children[child.task] = child
        return child

    async def start(self) -> None:
        """See to it that there is a nursery; it loads its libraries by itself.

        Raises:
            Fault: ``media.crashed``.
        """
        async with self._starting:
            if self._control is None:
                await self._start()

    def kill(self, child: Child) -> None:
        """Kill a child if it still runs; ``ended`` follows."""
        if child.ended.done() or self._control is None:
            return
        try:
            self._control.send(Record(Op.KILL, child.task).pack())
        except OSError:
            self.abandon()

    def abandon(self) -> None:
        """Kill a nursery that does not answer; its children die with it, all ``ended`` are set."""
        self._kill()
        self._lose()

    async def stop(self) -> None:
        """End the nursery and wait until it is gone; ``spawn`` starts another."""
        async with self._starting:
            self.abandon()
            await self._bury()

    async def _start(self) -> None:
        await self._bury()
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the working folder may be an inbox; no module comes from there
                "-m",
                "tnfd.media.nursery",
                str(theirs.fileno()),
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=nursery_environment(),
                start_new_session=True,  # out of reach of the terminal's Ctrl-C
            )
        except BaseException as error:
            ours.close()
            if isinstance(error, OSError):
                raise Fault("media.crashed", f"cannot start it: {error.strerror}") from error
            raise
        finally:
            theirs.close()
        self._control = ours
        self._heard = b""
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear)

    def _hear(self) -> None:
        assert self._control is not None  # noqa: S101  the reader is removed with it
        try:
            data = self._control.recv(256 * RECORD_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        self._heard += data
        while len(self._heard) >= RECORD_BYTES:
            record = Record.unpack(self._heard[:RECORD_BYTES])
            self._heard = self._heard[RECORD_BYTES:]
            if record.op is Op.UNWALLED:
                self._tell_unwalled(record.value)
                continue
            failed = record.op is Op.FAILED
            self._end(record.task, Ended(errno=record.value) if failed else Ended(status=record.value))

    def _tell_unwalled(self, missing: int) -> None:
        """Say once in a life of the daemon that decoders are less confined than they should be."""
        if not self._told:
            self._told = True
            walls = ", ".join(name for bit, name in _WALLS.items() if missing & bit)
            _log.warning("media.unconfined", missing=walls, hint="Run: tnfd doctor")

    def _end(self, task: int, how: Ended) -> None:
        child = self._children.pop(task, None)
        if child is not None:
            child.ended.set_result(how)

    def _lose(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            asyncio.get_running_loop().remove_reader(control.fileno())
            control.close()
        for task in list(self._children):
            self._end(task, Ended())

    async def _bury(self) -> None:
        """Wait for the process of a nursery that was lost."""
        self._kill()
        if self._process is not None:
            await self._process.wait()
            self._process = None

    def _kill(self) -> None:
        # Not by Process.kill(): it looks for the exit status first, and takes it from whoever waits for it
        # (subprocess.Popen.send_signal polls; asyncio then warns of an unknown child process).
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)


def nursery_environment() -> dict[str, str]:
    """The nursery's whole environment; the module path is the daemon's own."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    environment["OPENBLAS_NUM_THREADS"] = "1"  # 40 MB of address space a thread
    environment["MALLOC_ARENA_MAX"] = "2"  # glibc: 64 MB of address space an arena
    return environment
