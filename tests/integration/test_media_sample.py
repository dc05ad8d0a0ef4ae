"""The bundled sample: it is there, it is small, and the embedded engine understands it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tnfd.demo import sample, sample_text
from tnfd.media.task import prepare_recording
from tnfd.media.wire import Order
from tnfd.ports.media import MediaEvent
from tnfd.rules.cuts import Limits


@pytest.fixture
def pcm(tmp_path: Path) -> bytes:
    events: list[MediaEvent] = []
    scratch_fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with sample() as path, path.open("rb") as source:
            prepare_recording(source.fileno(), scratch_fd, Order("pcm", 10**6, Limits(60.0)), events.append)
    finally:
        os.close(scratch_fd)
    assert len(events) == 3
    return (tmp_path / "0000.pcm").read_bytes()


def test_sample_is_short_and_small(pcm: bytes) -> None:
    assert 6.0 < len(pcm) / 32_000 < 8.0
    with sample() as path:
        assert path.stat().st_size < 100_000


def test_embedded_engine_understands_the_sample(pcm: bytes) -> None:
    pocketsphinx = pytest.importorskip("pocketsphinx")
    decoder = pocketsphinx.Decoder(loglevel="FATAL")
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    said = re.findall(r"[a-z]+", sample_text().lower())
    heard = decoder.hyp().hypstr.split()
    assert len(said) == 21
    assert len(set(said) & set(heard)) >= 0.9 * len(set(said))
