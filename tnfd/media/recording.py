"""A stranger's file, opened: owns the container and the chosen audio stream; runs in a child process only.

Turns whatever the file is into decoded frames of one audio stream and the facts of ``MediaInfo``. It never
follows a reference to another file or to the network.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import av
import av.error
import av.logging
import av.stream

from tnfd.errors import Fault
from tnfd.media.limits import MAX_CHANNELS, MAX_RATE_HZ, MAX_STREAMS, MIN_RATE_HZ
from tnfd.media.streams import AudioFacts, decide_stream
from tnfd.model import MediaInfo

# Real media, and nothing that names other files (HLS, DASH, concat, SDP, image sequences). What counts is the
# content: a playlist renamed to .mp3 is still a playlist.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mp3,wav,w64,aiff,caf,au,flac,ogg,aac,amr,asf,avi,mpegts,mpeg,flv,"
    "ac3,eac3,wv,ape,tta,dsf,mp2"
)
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}

# A demuxer that fails this often without one packet in between has nothing left to give.
_MAX_FAILURES_IN_A_ROW = 64


@contextlib.contextmanager
def open_recording(source_fd: int, languages: Sequence[str]) -> Iterator[Recording]:
    """Open the file behind ``source_fd`` and choose its audio stream; closed on leaving.

    Raises:
        Fault: ``media.not_media``, ``media.no_audio``, ``media.corrupt``, ``media.limits``, ``source.*``.
        MemoryError: the file makes the decoder ask for more than it may have.
    """
    container, guessed = _open(source_fd)
    try:
        yield Recording(source_fd, container, languages, guessed_duration=guessed)
    finally:
        container.close()


def _open(source_fd: int) -> tuple[Any, bool]:
    if sys.platform != "linux":
        # There /dev/fd duplicates the descriptor, offset and all; Linux opens the file afresh.
        os.lseek(source_fd, 0, os.SEEK_SET)
    # libavformat/demux.c warns when it divides the file's size by the bit rate of the first packets; that is
    # nobody's promise, and wrong for variable bit rates.
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture() as log:
            container = av.open(
                f"file:/dev/fd/{source_fd}", container_options=_OPTIONS, metadata_errors="replace"
            )
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError) as error:
        _check_readable(source_fd, error)
        raise Fault("media.not_media") from error
    finally:
        av.logging.set_level(None)
    return container, any("duration from bitrate" in message for _, _, message in log)


def _check_readable(source_fd: int, error: Exception) -> None:
    """Tell a failing disk from a broken file: demuxers answer EIO and EPERM to both."""
    if not isinstance(error, OSError):
        return
    offset = 0
    try:
        os.close(os.open(f"/dev/fd/{source_fd}", os.O_RDONLY))
        while block := os.pread(source_fd, 1 << 20, offset):
            offset += len(block)
    except PermissionError as failure:
        raise Fault("source.unreadable", failure.strerror or "") from failure
    except OSError as failure:
        raise Fault("source.io", failure.strerror or "") from failure


class Recording:
    """One opened file; ``media`` is what its headers say, ``bad_packets`` what could not be used so far."""

    def __init__(
        self, source_fd: int, container: Any, languages: Sequence[str], *, guessed_duration: bool
    ) -> None:
        self._source_fd = source_fd
        self._container = container
        self.bad_packets = 0
        if len(container.streams) > MAX_STREAMS:
            raise Fault("media.limits", f"{len(container.streams)} streams")
        audio = container.streams.audio
        if not audio:
            raise Fault("media.no_audio")
        chosen = decide_stream([_facts(stream) for stream in audio], languages)
        if chosen is None:
            raise Fault("media.corrupt", "no decoder for its codec")
        self._stream = container.streams[chosen.index]
        self._stream.codec_context.thread_count = 1
        check_format(self._stream.codec_context.sample_rate, self._stream.codec_context.layout.nb_channels)
        _discard_others(container, chosen.index)
        self.media = MediaInfo(
            container=_container_name(container),
            codec=self._stream.codec_context.codec.canonical_name,
            duration_s=None if guessed_duration else self._duration_s(),
            audio_streams=len(audio),
            recorded_at=recorded_at(container.metadata),
        )

    @property
    def channels(self) -> int:
        """How many channels the chosen stream has."""
        return max(1, int(self._stream.codec_context.layout.nb_channels))

    @property
    def origin_s(self) -> float | None:
        """Where the recording starts on its own clock: the earliest start of any of its streams."""
        start = self._container.start_time
        return None if start is None else start / av.time_base

    @property
    def length_s(self) -> float | None:
        """How long the recording is by its headers, pictures and all; None where they do not say."""
        duration = self._container.duration
        return None if duration is None else duration / av.time_base

    def frames(self) -> Iterator[Any]:
        """Yield decoded frames (``av.AudioFrame``); what cannot be decoded is counted and left out.

        Raises:
            Fault: ``media.limits``; ``source.io`` if reading failed.
        """
        for packet in self._packets():
            try:
                frames = packet.decode()
            except MemoryError:
                raise
            except EOFError:
                continue  # the decoder has said its last
            except av.error.FFmpegError:
                self.bad_packets += 1
                continue
            for frame in frames:
                check_format(frame.sample_rate, frame.layout.nb_channels)
                if frame.samples and frame.sample_rate:
                    yield frame

    def _packets(self) -> Iterator[Any]:
        failures = 0
        while failures < _MAX_FAILURES_IN_A_ROW:
            try:
                # After a failure the demuxer goes on behind the bad spot.
                for packet in self._container.demux(self._stream):
                    failures = 0
                    yield packet
            except MemoryError:
                raise
            except av.error.FFmpegError as error:
                _check_readable(self._source_fd, error)
                failures += 1
                self.bad_packets += 1
            except IndexError:
                # PyAV 18 stumbles while flushing streams that turned up after opening (MPEG-TS does that);
                # they come after ours, which has its flush by then.
                return
            else:
                return

    def _duration_s(self) -> float | None:
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            duration_s = float(stream.duration * stream.time_base)
        else:
            duration_s = self.length_s or 0.0
        return duration_s if 0 < duration_s < 1e9 else None


def check_format(rate_hz: int, channels: int) -> None:
    """Refuse formats that no microphone makes; 0 is "not known yet".

    Raises:
        Fault: ``media.limits``.
    """
    if rate_hz and not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise Fault("media.limits", f"{rate_hz} samples a second")
    if channels > MAX_CHANNELS:
        raise Fault("media.limits", f"{channels} channels")


def recorded_at(metadata: dict[str, str]) -> str | None:
    """The moment of recording by the container's metadata, UTC, ISO 8601 with seconds; None if unset.

    Apple's own tag comes first: an export keeps it and renews ``creation_time``.
    """
    for key in ("com.apple.quicktime.creationdate", "creation_time"):
        try:
            moment = datetime.fromisoformat(metadata.get(key, ""))
            if moment.tzinfo is None:
                continue
            moment = moment.astimezone(UTC)
        except (ValueError, OverflowError):
            continue
        # 1904 and 1970 are the zeros of QuickTime's and Unix's clocks: a recorder without a date.
        if moment.year > 1970:
            return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return None


def _facts(stream: Any) -> AudioFacts:
    context = stream.codec_context
    disposition = stream.disposition
    kinds = type(disposition)
    known = stream.duration is not None and stream.time_base is not None
    return AudioFacts(
        index=stream.index,
        language=stream.metadata.get("language", ""),
        default=kinds.default in disposition,
        aside=bool(disposition & (kinds.comment | kinds.visual_impaired | kinds.descriptions)),
        channels=context.layout.nb_channels if context is not None else 0,
        duration_s=float(stream.duration * stream.time_base) if known else 0.0,
        decodable=context is not None,
    )


def _discard_others(container: Any, index: int) -> None:
    """Let the demuxer skip pictures and other sound unread."""
    discard = getattr(av.stream, "Discard", None)  # since PyAV 17; without it only time is lost
    if discard is not None:
        for stream in container.streams:
            if stream.index != index:
                stream.discard = discard.all


def _container_name(container: Any) -> str:
    """One short name; libavformat's are lists (``mov,mp4,m4a,3gp,3g2,mj2``)."""
    name: str = container.format.name
    if name.startswith("mov,"):
        brand = container.metadata.get("major_brand", "").strip().lower()
        if brand == "qt":
            return "mov"
        if brand.startswith("3g"):
            return "3gp"
        return "m4a" if brand == "m4a" else "mp4"
    return name.partition(",")[0]
