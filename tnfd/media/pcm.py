"""Sound as every engine takes it: owns the way from decoded frames to s16 mono 16 kHz; child process only.

Memory does not grow with the recording's length: blocks of 0.6 s come out as frames go in.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import av.filter

from tnfd.media.recording import Recording
from tnfd.media.timeline import Timeline
from tnfd.model import SAMPLE_RATE_HZ

BLOCK_SAMPLES = 9_600  # ten Opus frames of 60 ms


def read_blocks(recording: Recording, channel: int | None = None) -> Iterator[bytes]:
    """Yield the whole recording as blocks (s16, mono, 16 kHz), holes filled with silence.

    ``channel``: of this one alone; None: all mixed. A block holds at most BLOCK_SAMPLES samples;
    fewer only before a hole, a change of format, or the end.

    Raises:
        Fault: as ``Recording.frames``.
    """
    timeline = Timeline(recording.origin_s, recording.length_s)
    resampler: _Resampler | None = None
    for frame in recording.frames():
        silence_s = timeline.place(_moment_s(frame), frame.samples / frame.sample_rate)
        if resampler is not None and (silence_s or not resampler.takes(frame)):
            yield from resampler.finish()
            resampler = None
        yield from _silence(round(silence_s * SAMPLE_RATE_HZ))
        if resampler is None:
            resampler = _Resampler(frame, channel)
        yield from resampler.push(frame)
    if resampler is not None:
        yield from resampler.finish()


def _moment_s(frame: Any) -> float | None:
    """The frame's timestamp on the stream's clock."""
    if frame.pts is None or frame.time_base is None:
        return None
    base = frame.time_base
    moment_s: float = frame.pts * base.numerator / base.denominator  # products of Fraction are slow
    return moment_s


def _silence(samples: int) -> Iterator[bytes]:
    for at in range(0, samples, BLOCK_SAMPLES):
        yield bytes(2 * min(samples - at, BLOCK_SAMPLES))


class _Resampler:
    """One filter graph, made for the format of one frame.

    PyAV's ``AudioResampler`` starts a thread a core for each graph and cannot mix down layouts that only
    have a count of channels.
    """

    def __init__(self, frame: Any, channel: int | None) -> None:
        self._format = _format_of(frame)
        sample_fmt, layout, rate_hz = self._format
        self._time_base = Fraction(1, rate_hz)
        self._fed = 0
        graph = av.filter.Graph()
        graph.threads = 1
        nodes = [
            graph.add(
                "abuffer",
                sample_rate=str(rate_hz),
                sample_fmt=sample_fmt,
                channel_layout=layout,
                time_base=f"1/{rate_hz}",
            )
        ]
        channels = frame.layout.nb_channels
        if channel is not None:
            # One that is gone after a change of format is silent.
            nodes.append(
                graph.add(
                    "pan", f"mono|c0={'1' if channel < channels else '0'}*c{min(channel, channels - 1)}"
                )
            )
        elif layout == f"{channels} channels":
            share = "+".join(f"{1 / channels:.6f}*c{index}" for index in range(channels))
            nodes.append(graph.add("pan", f"mono|c0={share}"))
        nodes.append(
            graph.add("aformat", sample_rates=str(SAMPLE_RATE_HZ), sample_fmts="s16", channel_layouts="mono")
        )
        nodes.append(graph.add("abuffersink"))
        graph.link_nodes(*nodes).configure()
        graph.set_audio_frame_size(BLOCK_SAMPLES)
        self._graph = graph

    def takes(self, frame: Any) -> bool:
        return self._format == _format_of(frame)

    def push(self, frame: Any) -> Iterator[bytes]:
        # Timestamps have done their work in the timeline; here they could only make the filters stumble.
        frame.pts = self._fed
        frame.time_base = self._time_base
        self._fed += frame.samples
        self._graph.push(frame)
        return self._pull()

    def finish(self) -> Iterator[bytes]:
        self._graph.push(None)
        return self._pull()

    def _pull(self) -> Iterator[bytes]:
        while True:
            try:
                block = self._graph.pull()
                yield bytes(memoryview(block.planes[0])[: 2 * block.samples])
            except (av.error.BlockingIOError, av.error.EOFError):
                return


def _format_of(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
