"""The child's side of an engine's process: loads one worker, hands it requests, ends when its parent does.

Stands alone: the standard library and nothing of tnfd, so that it starts quickly and can be run as a file.
A worker is a file beside it with ``open_worker() -> Callable[[request, tell], answer]``; what it imports
stays here.

A frame is four bytes of length (big endian) and that much JSON. Each request gets any number of
``{"news": ...}`` (what ``tell`` was given: a sign of life) and then one answer; ``{"error": text}`` where the
worker raised. Ends with 0 when stdin ends or nothing came for ``idle_s`` seconds.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import select
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

_FRAME_MAX_BYTES = 16 * 1024 * 1024
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>

Tell = Callable[[object], None]
Worker = Callable[[dict[str, Any], Tell], dict[str, Any]]


def main() -> None:
    """Serve requests: ``child_host.py WORKER IDLE_S PARENT_PID MEMORY_BYTES FILE_BYTES``; 0: no limit."""
    file, idle_s, parent = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    memory_bytes, file_bytes = int(sys.argv[4]), int(sys.argv[5])
    _tie_to(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    if memory_bytes and sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    requests = sys.stdin.buffer.raw if hasattr(sys.stdin.buffer, "raw") else sys.stdin.buffer
    # What a library prints must not get between the frames.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def tell(news: object) -> None:
        if os.getppid() != parent:  # where PDEATHSIG does not exist
            raise SystemExit(0)
        _write_frame(answers, {"news": news})

    work = _load(file)
    while (request := _read_frame(requests, idle_s)) is not None:
        try:
            answer = work(request, tell)
        except OSError as error:
            answer = {"error": error.strerror or str(error) or "the audio cannot be read"}
        except (RuntimeError, ValueError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        _write_frame(answers, answer)


def _load(file: str) -> Worker:
    spec = importlib.util.spec_from_file_location("tnfd_worker", file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    worker: Worker = module.open_worker()
    return worker


def _tie_to(parent: int) -> None:
    """End with the parent, even when it is killed in the middle of long work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        raise SystemExit(0)


# -- frames ---------------------------------------------------------------------------------------------


def _read_frame(source: Any, idle_s: float) -> dict[str, Any] | None:
    """Wait for the next request; None when stdin ends or nothing comes."""
    ready, _, _ = select.select([source], [], [], idle_s)
    head = _read_exactly(source, 4) if ready else b""
    if len(head) < 4:
        return None
    (length,) = struct.unpack(">I", head)
    if length > _FRAME_MAX_BYTES:
        raise ValueError("a frame is too long")
    frame: dict[str, Any] = json.loads(_read_exactly(source, length))
    return frame


def _read_exactly(source: Any, length: int) -> bytes:
    data = b""
    while len(data) < length and (more := source.read(length - len(data))):
        data += more
    return data


def _write_frame(sink: BinaryIO, frame: dict[str, Any]) -> None:
    body = json.dumps(frame).encode()
    sink.write(struct.pack(">I", len(body)) + body)
    sink.flush()


if __name__ == "__main__":
    main()
