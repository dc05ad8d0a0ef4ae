"""The nursery: a single-threaded process with PyAV loaded; forks one child a recording, kills and reaps it.

``python -m tnfd.media.nursery FD PID`` is started by the daemon: FD is its end of the control socket, PID the
daemon. It opens no media itself, holds no secrets, and ends with the control socket or the daemon.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import sys
from typing import NoReturn

from tnfd import confine
from tnfd.media.wire import DESCRIPTORS, RECORD_BYTES, Op, Record

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS = 38


class Nursery:
    """Forks, kills and reaps; ``control`` speaks ``wire.Record``. Not ``able``, it refuses every task."""

    def __init__(self, control: socket.socket, *, able: bool = True) -> None:
        self._control = control
        self._able = able
        self._pids: dict[int, int] = {}  # task -> pid
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)

    def run(self) -> None:
        """Serve until the daemon closes the control socket; then kill whatever still runs."""
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to be woken
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        try:
            while True:
                ready, _, _ = select.select([self._control, self._wake], [], [])
                if self._wake in ready:
                    self._reap()
                if self._control in ready and not self._serve():
                    return
        finally:
            for pid in self._pids.values():
                os.kill(pid, signal.SIGKILL)

    def _serve(self) -> bool:
        """Do one request; False once the daemon is gone."""
        data, fds, _, _ = socket.recv_fds(self._control, RECORD_BYTES, DESCRIPTORS)
        try:
            while data and len(data) < RECORD_BYTES:
                data += self._control.recv(RECORD_BYTES - len(data)) or b"\0" * RECORD_BYTES
            if not data:
                return False
            record = Record.unpack(data)
            if record.op is Op.SPAWN and len(fds) == DESCRIPTORS:
                self._spawn(record.task, *fds)
            elif record.op is Op.KILL and record.task in self._pids:
                os.kill(self._pids[record.task], signal.SIGKILL)
            return True
        finally:
            for fd in fds:
                os.close(fd)

    def _spawn(self, task: int, reply_fd: int, source_fd: int, scratch_fd: int) -> None:
        if not self._able:
            self._control.sendall(Record(Op.FAILED, task).pack())
            return
        nursery = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._control.sendall(Record(Op.FAILED, task, error.errno or 0).pack())
            return
        if pid:
            self._pids[task] = pid
            return
        self._be_child(nursery, reply_fd, source_fd, scratch_fd)

    def _be_child(self, nursery: int, reply_fd: int, source_fd: int, scratch_fd: int) -> NoReturn:
        status = 1
        try:
            die_with(nursery)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for own in (self._control, self._wake, self._waker):
                own.close()
            from tnfd.media.task import run_child

            with socket.socket(fileno=reply_fd) as reply:
                status = run_child(reply, source_fd, scratch_fd)
        finally:
            os._exit(status)  # nothing of the nursery's may run twice

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake.recv(4096):
                pass
        for task, pid in list(self._pids.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._pids[task]
                self._control.sendall(Record(Op.ENDED, task, status).pack())


def die_with(parent: int) -> None:
    """Have the kernel kill this process when ``parent`` ends; end now if it already has.

    Where there is no prctl (macOS), closed sockets do the same a little later.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def main() -> int:
    """Run the nursery."""
    die_with(int(sys.argv[2]))
    # Ctrl-C and a stopping service manager reach the whole group; the daemon alone decides who ends when.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    try:
        import tnfd.media.task  # noqa: F401  loaded once, inherited by every child
    except ImportError:
        able = False  # PyAV is missing or broken; the daemon says so, file by file
    else:
        able = True
    gc.collect()
    gc.freeze()  # children share these pages for good
    with socket.socket(fileno=int(sys.argv[1])) as control:
        # Children inherit the first wall; each puts the second one round itself and its recording.
        unwalled = (confine.shut_off(forks=True) is not None) + 2 * (not confine.offers_landlock())
        if unwalled:
            control.sendall(Record(Op.UNWALLED, 0, unwalled).pack())
        Nursery(control, able=able).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
