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


def read_blocks(recording: Recording) -> Iterator[Any]:
    """Yield the whole recording as blocks (``av.AudioFrame``: s16, mono, 16 kHz), holes filled with silence.

    All but the last block before a change of format hold BLOCK_SAMPLES samples.

    Raises:
        Fault: as ``Recording.frames``.
    """
    timeline = Timeline(recording.origin_s)
    resampler: _Resampler | None = None
    for frame in recording.frames():
        if resampler is None or not resampler.takes(frame):
            if resampler is not None:
                yield from resampler.finish()
            resampler = _Resampler(frame)
        silence_s = timeline.place(resampler.moment_s(frame), frame.samples / frame.sample_rate)
        while silence_s > 0:
            yield from resampler.push(_silence_like(frame, min(silence_s, 1.0)))
            silence_s -= 1.0
        yield from resampler.push(frame)
    if resampler is not None:
        yield from resampler.finish()


def _silence_like(frame: Any, duration_s: float) -> Any:
    silence = av.AudioFrame(frame.format, frame.layout, max(1, round(duration_s * frame.sample_rate)))
    silence.sample_rate = frame.sample_rate
    zero = b"\x80" if frame.format.name.startswith("u8") else b"\0"
    for plane in silence.planes:
        plane.update(zero * plane.buffer_size)
    return silence


class _Resampler:
    """One filter graph, made for the format of one frame.

    PyAV's ``AudioResampler`` starts a thread a core for each graph and cannot mix down layouts that only
    have a count of channels.
    """

    def __init__(self, frame: Any) -> None:
        self._format = _format_of(frame)
        self._tick_s = float(frame.time_base or 0)  # once: Fraction is slow
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
        if layout == f"{channels} channels":
            share = "+".join(f"{1 / channels:.6f}*c{index}" for index in range(channels))
            nodes.append(graph.add("pan", f"mono|c0={share}"))
        nodes.append(
            graph.add("aformat", sample_rates=str(SAMPLE_RATE_HZ), sample_fmts="s16", channel_layouts="mono")
        )
        nodes.append(graph.add("abuffersink"))
        graph.link_nodes(*nodes).configure()
        graph.set_audio_frame_size(BLOCK_SAMPLES)
        self._graph = graph

    def moment_s(self, frame: Any) -> float | None:
        """The frame's own timestamp on the stream's clock."""
        return None if frame.pts is None else frame.pts * self._tick_s

    def takes(self, frame: Any) -> bool:
        return self._format == _format_of(frame)

    def push(self, frame: Any) -> Iterator[Any]:
        # Timestamps have done their work in the timeline; here they could only make the filters stumble.
        frame.pts = self._fed
        frame.time_base = self._time_base
        self._fed += frame.samples
        self._graph.push(frame)
        return self._pull()

    def finish(self) -> Iterator[Any]:
        self._graph.push(None)
        return self._pull()

    def _pull(self) -> Iterator[Any]:
        while True:
            try:
                yield self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return


def _format_of(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate
