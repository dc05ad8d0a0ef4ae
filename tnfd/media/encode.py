"""Cut files: owns writing them, under a dot-name until they are whole; child process only."""

from __future__ import annotations

import contextlib
import errno
import os
from fractions import Fraction
from types import TracebackType
from typing import Any, Protocol, Self

import av

from tnfd.errors import Fault
from tnfd.media.wire import cut_name
from tnfd.model import SAMPLE_RATE_HZ, Cut, Encoding

# Measured 2026-11 on speech: level 3 with 60 ms frames takes half the time of level 10, at 10.4 MB an hour.
_OPUS = {"application": "voip", "b": "24000", "compression_level": "3", "frame_duration": "60"}
_TIME_BASE = Fraction(1, SAMPLE_RATE_HZ)


def fault_of_write(error: OSError) -> Fault:
    """Translate the failure to write into the scratch folder."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Fault("output.disk_full" if full else "output.io", error.strerror or str(error))


class Sink:
    """The file below an encoder: counts bytes, and keeps the first failure (libavformat loses some)."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size_bytes = 0
        self.fault: Fault | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write all of it.

        Raises:
            Fault: ``output.*``.
        """
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._fd, view)
            except OSError as error:
                self.fault = fault_of_write(error)
                raise self.fault from error
            self.size_bytes += written
            view = view[written:]
        return len(data)

    def check(self) -> None:
        """Raise the failure that was kept."""
        if self.fault is not None:
            raise self.fault


class Encoder(Protocol):
    """Takes blocks (``av.AudioFrame``: s16, mono, 16 kHz) and writes them to its sink."""

    def write(self, block: Any) -> None:
        """Encode a block."""
        ...

    def close(self) -> None:
        """Write what is still held back."""
        ...


class PcmEncoder:
    """Raw s16le."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, block: Any) -> None:
        """Write a block's samples."""
        self._sink.write(memoryview(block.planes[0])[: block.samples * 2])

    def close(self) -> None:
        """Nothing is held back."""


class OpusEncoder:
    """Ogg/Opus, 24 kbit/s, tuned for speech."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._samples = 0
        self._container: Any = av.open(sink, "w", format="ogg")
        self._stream: Any = self._container.add_stream("libopus", rate=SAMPLE_RATE_HZ, options=dict(_OPUS))
        self._stream.layout = "mono"
        self._stream.thread_count = 1

    def write(self, block: Any) -> None:
        """Encode a block."""
        block.pts = self._samples
        block.time_base = _TIME_BASE
        self._samples += block.samples
        self._mux(block)

    def close(self) -> None:
        """Flush encoder and container."""
        self._mux(None)
        self._container.close()
        self._sink.check()

    def _mux(self, block: Any) -> None:
        for packet in self._stream.encode(block):
            self._container.mux(packet)
        self._sink.check()


class CutFile:
    """One cut on its way to disk. A context manager: what is not published leaves nothing behind.

    Owns a file below the folder ``scratch_fd``; a whole file of the same name, left by a run that was killed,
    is replaced.
    """

    def __init__(self, scratch_fd: int, index: int, start_sample: int, encoding: Encoding) -> None:
        self._scratch_fd = scratch_fd
        self._index = index
        self._start_sample = start_sample
        self._name = cut_name(index, encoding)
        self._temporary = f".{self._name}.tmp"
        self.samples = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(self._temporary, flags, 0o600, dir_fd=scratch_fd)
        except OSError as error:
            raise fault_of_write(error) from error
        self._sink = Sink(self._fd)
        self._encoder: Encoder = PcmEncoder(self._sink) if encoding == "pcm" else OpusEncoder(self._sink)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        os.close(self._fd)
        with contextlib.suppress(OSError):
            os.unlink(self._temporary, dir_fd=self._scratch_fd)

    @property
    def size_bytes(self) -> int:
        """Bytes written so far; the encoder may hold back a second."""
        return self._sink.size_bytes

    def write(self, block: Any) -> None:
        """Append a block.

        Raises:
            Fault: ``output.*``.
        """
        self._encoder.write(block)
        self.samples += block.samples

    def complete(self) -> None:
        """Write what the encoder holds back; ``size_bytes`` is final then.

        Raises:
            Fault: ``output.*``.
        """
        self._encoder.close()

    def publish(self) -> Cut:
        """Give the completed file its name.

        Raises:
            Fault: ``output.*``.
        """
        try:
            os.rename(self._temporary, self._name, src_dir_fd=self._scratch_fd, dst_dir_fd=self._scratch_fd)
        except OSError as error:
            raise fault_of_write(error) from error
        end_sample = self._start_sample + self.samples
        return Cut(self._index, self._start_sample, end_sample, self._name, self.size_bytes)
