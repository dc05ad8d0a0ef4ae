"""Cutting in the child: real containers and codecs, run in the test's own process."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.integration import media_files as make
from tnfd.media.task import prepare_recording
from tnfd.media.wire import Conversation, Order, line_of
from tnfd.model import SAMPLE_RATE_HZ, Cut, Encoding
from tnfd.ports.media import Decoded, MediaEvent, Probed
from tnfd.rules.cuts import OVERLAP, Limits, Stretch, uncovered
from tnfd.testing import hearing
from tnfd.testing.seconds import LEAD_S, RATE, hear, sound, word_of

NOISY = range(60, 120)
LIMITS = Limits(30.0)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two minutes in which each second says its number, the second one in noise."""
    path = tmp_path / "talk.wav"
    pcm = b"".join(sound(range(120), noisy=NOISY))
    path.write_bytes(make.wav_header(len(pcm), RATE) + pcm)
    return path


Prepared = tuple[list[Cut], Decoded]


@pytest.fixture
def prepare(tmp_path: Path) -> Iterator[Callable[..., Prepared]]:
    """Do an order, everything that is said checked as the daemon checks it."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    scratch_fd = os.open(scratch, os.O_RDONLY)

    def run(path: Path, encoding: Encoding = "pcm", limits: Limits = LIMITS, **more: object) -> Prepared:
        order = Order(encoding, 25_000_000, limits, **more)  # type: ignore[arg-type]
        talk = Conversation(order)
        events: list[MediaEvent] = []
        source_fd = os.open(path, os.O_RDONLY)
        try:
            prepare_recording(
                source_fd, scratch_fd, order, lambda event: events.append(talk.hear(line_of(event)))
            )
        finally:
            os.close(source_fd)
        probed, *cuts, decoded = events
        assert isinstance(probed, Probed)
        assert isinstance(decoded, Decoded)
        return [cut for cut in cuts if isinstance(cut, Cut)], decoded

    yield run
    os.close(scratch_fd)


def said(path: Path, cut: Cut) -> list[tuple[float, str]]:
    """Each word of a cut with its second in the recording."""
    if cut.file.endswith(".pcm"):
        samples = array("h", (path / cut.file).read_bytes())[::4]
    else:
        samples = hearing.decoded((path / cut.file).read_bytes())
    return [(cut.start_s + one.start_s, one.word) for one in hear(samples)]


@pytest.mark.parametrize("encoding", ["pcm", "wav", "opus"])
def test_no_second_is_lost_between_cuts(
    prepare: Callable[..., Prepared], recording: Path, tmp_path: Path, encoding: Encoding
) -> None:
    cuts, decoded = prepare(recording, encoding)
    assert decoded == Decoded(120 * SAMPLE_RATE_HZ, 0)
    assert len(cuts) >= 5
    assert uncovered(cuts, decoded.samples) == []
    assert max(cut.duration_s for cut in cuts) <= LIMITS.max_s
    heard: set[str] = set()
    for cut in cuts:
        for at_s, word in said(tmp_path / "scratch", cut):
            if word != "hm":
                assert at_s == pytest.approx(int(word[1:]) + LEAD_S, abs=0.05)
                heard.add(word)
    assert heard == {word_of(second) for second in range(120)}


def test_cuts_lie_in_pauses_and_overlap_where_there_are_none(
    prepare: Callable[..., Prepared], recording: Path
) -> None:
    cuts, _ = prepare(recording)
    for before, behind in pairwise(cuts):
        at_s = before.end_sample / SAMPLE_RATE_HZ
        assert before.torn_end == behind.torn_start
        if before.torn_end:
            assert behind.start_sample == before.end_sample - OVERLAP
        else:
            assert behind.start_sample == before.end_sample
            assert not LEAD_S < at_s % 1 < LEAD_S + 0.5, "through a word"
    torn = [cut.end_sample / SAMPLE_RATE_HZ for cut in cuts if cut.torn_end]
    assert torn
    assert min(torn) > NOISY.start


def test_what_is_owed_is_cut_as_if_nothing_had_happened(
    prepare: Callable[..., Prepared], recording: Path, tmp_path: Path
) -> None:
    whole, decoded = prepare(recording)
    lost = whole[2:4]
    files = {cut.file: (tmp_path / "scratch" / cut.file).read_bytes() for cut in whole}
    for cut in whole:
        (tmp_path / "scratch" / cut.file).unlink()

    again, _ = prepare(recording, wanted=tuple(lost), stretches=())
    assert again == [cut for cut in lost if (tmp_path / "scratch" / cut.file).exists()]
    assert {cut.file: (tmp_path / "scratch" / cut.file).read_bytes() for cut in again} == {
        cut.file: files[cut.file] for cut in again
    }

    rest = tuple(uncovered(whole[:4], None))
    tail, ended = prepare(recording, stretches=rest, next_index=4)
    assert [(cut.start_sample, cut.end_sample) for cut in tail] == [
        (cut.start_sample, cut.end_sample) for cut in whole[4:]
    ]
    assert ended == decoded


def test_a_cut_in_the_middle_is_cut_smaller_with_its_edges(
    prepare: Callable[..., Prepared], recording: Path, tmp_path: Path
) -> None:
    whole, decoded = prepare(recording)
    at = next(n for n, cut in enumerate(whole) if cut.torn_start and cut.torn_end)
    kept = [cut for n, cut in enumerate(whole) if n != at]
    (hole,) = uncovered(kept, decoded.samples)
    assert (hole.start, hole.end) == (whole[at].start_sample, whole[at].end_sample)
    smaller, _ = prepare(recording, limits=Limits(12.0), stretches=(hole,), next_index=90)
    assert len(smaller) >= 3
    assert max(cut.duration_s for cut in smaller) <= 12.0
    assert [cut.index for cut in smaller] == list(range(90, 90 + len(smaller)))
    assert uncovered([*kept, *smaller], decoded.samples) == []


def test_decoding_ends_with_what_is_owed(prepare: Callable[..., Prepared], recording: Path) -> None:
    cuts, decoded = prepare(recording, stretches=(Stretch(0, 5 * SAMPLE_RATE_HZ),))
    assert [(cut.start_sample, cut.end_sample) for cut in cuts] == [(0, 5 * SAMPLE_RATE_HZ)]
    assert decoded.samples < 10 * SAMPLE_RATE_HZ


@pytest.mark.parametrize(
    ("level", "silent"), [(0, True), (10, True), (40, False)], ids=["digital", "converter", "faint"]
)
def test_silence_has_no_file(
    prepare: Callable[..., Prepared], tmp_path: Path, level: int, silent: bool
) -> None:
    path = tmp_path / "quiet.wav"
    pcm = array("h", (500 + n * 7919 % (2 * level + 1) - level for n in range(40 * RATE))).tobytes()
    path.write_bytes(make.wav_header(len(pcm), RATE) + pcm)
    cuts, _ = prepare(path, "opus")
    assert [cut.silent for cut in cuts] == [silent] * 2
    assert [bool(cut.file) for cut in cuts] == [not silent] * 2
    assert len(os.listdir(tmp_path / "scratch")) == (0 if silent else 2)
