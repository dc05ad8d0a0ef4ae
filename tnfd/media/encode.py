"""Cut files: owns writing them, under a dot-name until they are whole; child process only.

Samples come as bytes: s16, mono, 16 kHz.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from fractions import Fraction
from typing import Any, Protocol

import av

from tnfd.errors import Fault
from tnfd.media.wire import cut_name, encoding_of
from tnfd.model import SAMPLE_RATE_HZ, Encoding

__all__ = ["CutFile", "cut_name", "encoding_of", "fault_of_write"]

# Measured 2026-11 on speech: level 3 with 60 ms frames takes half the time of level 10, at 10.4 MB an hour.
_OPUS = {"application": "voip", "b": "24000", "compression_level": "3", "frame_duration": "60"}
_TIME_BASE = Fraction(1, SAMPLE_RATE_HZ)
_FRAME_BYTES = 2 * 9_600  # ten Opus frames
_WAV_HEAD_BYTES = 44


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

    def overwrite(self, head: bytes) -> None:
        """Write the first bytes anew.

        Raises:
            Fault: ``output.*``.
        """
        try:
            os.pwrite(self._fd, head, 0)
        except OSError as error:
            raise fault_of_write(error) from error

    def check(self) -> None:
        """Raise the failure that was kept."""
        if self.fault is not None:
            raise self.fault


class Encoder(Protocol):
    """Takes samples and writes them to its sink."""

    def write(self, data: bytes) -> None:
        """Encode samples."""
        ...

    def close(self) -> None:
        """Write what is still held back."""
        ...


class PcmEncoder:
    """Raw s16le."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> None:
        """Write samples."""
        self._sink.write(data)

    def close(self) -> None:
        """Nothing is held back."""


class WavEncoder:
    """WAV: what every server reads, at eleven times the size of Opus."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._sink.write(_wav_head(0))

    def write(self, data: bytes) -> None:
        """Write samples."""
        self._sink.write(data)

    def close(self) -> None:
        """Write the length into the header."""
        self._sink.overwrite(_wav_head(self._sink.size_bytes - _WAV_HEAD_BYTES))


class OpusEncoder:
    """Ogg/Opus, 24 kbit/s, tuned for speech."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._samples = 0
        self._container: Any = av.open(sink, "w", format="ogg")
        self._stream: Any = self._container.add_stream("libopus", rate=SAMPLE_RATE_HZ, options=dict(_OPUS))
        self._stream.layout = "mono"
        self._stream.thread_count = 1

    def write(self, data: bytes) -> None:
        """Encode samples."""
        for at in range(0, len(data), _FRAME_BYTES):
            part = data[at : at + _FRAME_BYTES]
            frame = av.AudioFrame("s16", "mono", len(part) // 2)
            frame.planes[0].update(part + bytes(frame.planes[0].buffer_size - len(part)))
            frame.sample_rate = SAMPLE_RATE_HZ
            frame.pts = self._samples
            frame.time_base = _TIME_BASE
            self._samples += frame.samples
            self._mux(frame)

    def close(self) -> None:
        """Flush encoder and container."""
        self._mux(None)
        self._container.close()
        self._sink.check()

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        self._sink.check()


_ENCODERS: dict[Encoding, type[PcmEncoder | WavEncoder | OpusEncoder]] = {
    "pcm": PcmEncoder, "wav": WavEncoder, "opus": OpusEncoder,
}  # fmt: skip


def _wav_head(data_bytes: int) -> bytes:
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + data_bytes, b"WAVE", b"fmt ", 16, 1, 1, SAMPLE_RATE_HZ,
        2 * SAMPLE_RATE_HZ, 2, 16, b"data", data_bytes,
    )  # fmt: skip


class CutFile:
    """The file ``name`` below the folder ``scratch_fd``, on its way to disk; it replaces a whole one.

    What is not published leaves nothing behind once it is closed.
    """

    def __init__(self, scratch_fd: int, name: str, encoding: Encoding) -> None:
        self._scratch_fd = scratch_fd
        self._name = name
        self._temporary = f".{name}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(self._temporary, flags, 0o600, dir_fd=scratch_fd)
        except OSError as error:
            raise fault_of_write(error) from error
        self._open = True
        self._sink = Sink(self._fd)
        self._encoder: Encoder = _ENCODERS[encoding](self._sink)

    @property
    def size_bytes(self) -> int:
        """Bytes written so far; the encoder may hold back a second."""
        return self._sink.size_bytes

    def write(self, data: bytes) -> None:
        """Append samples.

        Raises:
            Fault: ``output.*``.
        """
        self._encoder.write(data)

    def complete(self) -> None:
        """Write what the encoder holds back; ``size_bytes`` is final then.

        Raises:
            Fault: ``output.*``.
        """
        self._encoder.close()

    def publish(self) -> int:
        """Give the completed file its name; return its size in bytes.

        Raises:
            Fault: ``output.*``.
        """
        try:
            os.fsync(self._fd)  # a row may outlive a power cut that its file does not
            os.rename(self._temporary, self._name, src_dir_fd=self._scratch_fd, dst_dir_fd=self._scratch_fd)
        except OSError as error:
            raise fault_of_write(error) from error
        return self.size_bytes

    def close(self) -> None:
        """Close it, and remove it if it has no name; harmless twice."""
        if not self._open:
            return
        self._open = False
        os.close(self._fd)
        with contextlib.suppress(OSError):
            os.unlink(self._temporary, dir_fd=self._scratch_fd)
