"""What one child does: read its order, bind itself, prepare one recording, say what happened, end.

Behind each cut it waits until the daemon asks for more, so that what is encoded and not sent stays bounded.

Runs in a process of its own, forked by the nursery for one file; only the cut files outlive it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import select
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import av.error

from tnfd import confine
from tnfd.errors import Fault
from tnfd.media.cutter import Cutting, Known, Pieces, too_long
from tnfd.media.limits import MAX_AUDIO_S, MAX_MEMORY_BYTES, time_limit_s
from tnfd.media.pcm import read_blocks
from tnfd.media.recording import Recording, open_recording
from tnfd.media.wire import MAX_LINE_BYTES, Order, line_of
from tnfd.model import Cut
from tnfd.ports.media import Decoded, MediaEvent, Probed

_NICENESS = 5
_MAX_DESCRIPTORS = 64
_LARGEST_FILE_BYTES = 1 << 40
_SPARE_FILE_BYTES = 4 << 20  # a page of Ogg, a block of PCM, a block of the file system


def run_child(reply: socket.socket, source_fd: int, scratch_fd: int) -> int:
    """Do the order that comes down ``reply`` and send events up; return the exit status.

    The daemon closing its end, or dying, ends the child at the next block.
    """
    order = Order.parse(_read_line(reply))
    _bind(order, os.fstat(source_fd).st_size)
    _wall_in(source_fd, scratch_fd)

    def tell(event: MediaEvent | Fault) -> None:
        reply.sendall(line_of(event))
        if isinstance(event, Cut) and not reply.recv(1):
            raise BrokenPipeError

    gone = select.poll()
    gone.register(
        reply, select.POLLIN
    )  # the daemon says nothing unless it is waited for: readable means closed
    try:
        prepare_recording(source_fd, scratch_fd, order, tell, stop=lambda: bool(gone.poll(0)))
    except Fault as fault:
        tell(fault)
    except MemoryError:
        tell(Fault("media.limits", "decoding it takes too much memory"))
    except OSError:
        return 1  # the daemon is gone; nobody listens
    except Exception as error:  # noqa: BLE001  the edge of the process: the daemon must learn what happened
        tell(Fault("internal.bug", f"{type(error).__name__}: {error}"))
        return 1
    return 0


def prepare_recording(
    source_fd: int,
    scratch_fd: int,
    order: Order,
    tell: Callable[[MediaEvent], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Decode one recording into cut files, calling ``tell`` with each event; see ``ports.Media.prepare``.

    Raises:
        Fault: ``media.*``, ``output.*``, ``source.*``.
        MemoryError: the recording asks for more than it may have.
    """
    try:
        with open_recording(source_fd, order.audio_languages) as recording:
            channels = recording.channels if order.by_channel else 1
            tell(Probed(replace(recording.media, channels=channels)))
            blocks = _blocks(recording, source_fd, order, channels)
            samples = _write_cuts(recording, blocks, channels, scratch_fd, order, tell, stop)
            tell(Decoded(samples, recording.bad_packets))
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise Fault("media.corrupt", error.strerror or "") from error


def _blocks(recording: Recording, source_fd: int, order: Order, channels: int) -> Iterator[bytes | None]:
    """Yield the sound; of several channels one after the other, with None between them.

    All are as long as the first: a place in one is the same place in another.
    """
    if not order.by_channel:
        yield from read_blocks(recording)
        return
    length = 0
    for block in read_blocks(recording, 0):
        length += len(block)
        yield block
    for channel in range(1, channels):
        yield None
        left = length
        with open_recording(source_fd, order.audio_languages) as again:
            for block in read_blocks(again, channel):
                yield block[:left]
                left -= min(left, len(block))
                if not left:
                    break
        yield bytes(left)


def _write_cuts(
    recording: Recording,
    blocks: Iterator[bytes | None],
    channels: int,
    scratch_fd: int,
    order: Order,
    tell: Callable[[MediaEvent], None],
    stop: Callable[[], bool],
) -> int:
    """Return the number of samples decoded."""
    promised_s = recording.media.duration_s
    if promised_s is not None:
        promised_s *= channels
    if promised_s is not None and promised_s > MAX_AUDIO_S:
        raise too_long()
    numbers = itertools.count(order.next_index)
    owed: list[Known | Cutting] = [Known(scratch_fd, cut, order.max_bytes, tell) for cut in order.wanted]
    owed += [
        Cutting(
            scratch_fd, stretch, promised_s, order.limits, order.encoding, order.max_bytes,
            lambda: next(numbers), tell,
        )
        for stretch in order.stretches
    ]  # fmt: skip
    pieces = Pieces(owed)
    try:
        for block in blocks:
            if block is None:
                pieces.border()
            else:
                pieces.feed(block)
            if stop():
                raise BrokenPipeError
            if pieces.done:
                return pieces.samples
        if not pieces.samples and (recording.bad_packets or promised_s):
            raise Fault("media.corrupt", "not one sample could be decoded")
        pieces.finish()
    finally:
        pieces.abandon()
    return pieces.samples


def _read_line(reply: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = reply.recv(MAX_LINE_BYTES)
        if not part:
            raise BrokenPipeError
        line += part
    return line


def _bind(order: Order, size_bytes: int) -> None:
    """Bound what a hostile file can make this process take. All limits but memory are the same on macOS."""
    with contextlib.suppress(PermissionError):  # the service forbids it (~@resources), and is nice itself
        os.nice(_NICENESS)
    # At the soft limit SIGXCPU says why; the hard one is SIGKILL.
    _limit(resource.RLIMIT_CPU, int(time_limit_s(size_bytes, None)), spare=5)
    _limit(resource.RLIMIT_FSIZE, min(order.max_bytes, _LARGEST_FILE_BYTES) + _SPARE_FILE_BYTES)
    _limit(resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS)
    _limit(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as statm:
            pages = int(statm.read().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + MAX_MEMORY_BYTES)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
            score.write("500")  # short of memory, the kernel takes a decoder before it takes the daemon


def _wall_in(source_fd: int, scratch_fd: int) -> None:
    """Leave a taken-over decoder nothing to do; where there is no such wall, the nursery has said so."""
    homes = {sys.modules[name].__path__[0] for name in ("av", "numpy", "tnfd") if name in sys.modules}
    # Modules that are loaded late; libavutil seeds the serial numbers of Ogg streams from /dev/urandom.
    confine.keep_to([source_fd], [scratch_fd], [*homes, os.path.dirname(os.__file__), "/dev/urandom"])
    confine.shut_off(forks=False)


def _limit(what: int, soft: int, *, spare: int = 0) -> None:
    hard = soft + spare
    _, ceiling = resource.getrlimit(what)
    if ceiling != resource.RLIM_INFINITY:
        hard = min(hard, ceiling)
    resource.setrlimit(what, (min(soft, hard), hard))
