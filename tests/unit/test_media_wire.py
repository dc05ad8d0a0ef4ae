"""What the daemon believes of a child that a stranger's file may have taken over."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnfd.errors import Fault
from tnfd.media.wire import (
    MAX_LINE_BYTES,
    RECORD_BYTES,
    Conversation,
    Nonsense,
    Op,
    Order,
    Record,
    cut_name,
    line_of,
)
from tnfd.model import Cut, MediaInfo
from tnfd.ports.media import Decoded, MediaEvent, Probed
from tnfd.rules.cuts import Limits, Stretch

MEDIA = MediaInfo("mp3", "mp3", 12.5, 2, "2024-03-05T10:00:00Z")
EVENTS: list[MediaEvent] = [
    Probed(MEDIA),
    Cut(0, 0, 160_000, "0000.ogg", 0, torn_end=True),
    Cut(1, 128_000, 200_000, "0001.ogg", 0, torn_start=True),
    Cut(2, 200_000, 210_000, "", 0, silent=True),
    Decoded(210_000, 3),
]
ORDER = Order("opus", 25_000_000, Limits(600.0, 5))


@pytest.mark.parametrize("op", list(Op))
@pytest.mark.parametrize(("task", "value"), [(0, 0), (2**32 - 1, -1), (7, 2**40)])
def test_record_comes_back(op: Op, task: int, value: int) -> None:
    packed = Record(op, task, value).pack()
    assert len(packed) == RECORD_BYTES == 16
    assert Record.unpack(packed) == Record(op, task, value)


def test_record_of_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a valid Op"):
        Record.unpack(b"?" + bytes(15))


@pytest.mark.parametrize("max_s", [1400.0, float("inf")])
def test_order_comes_back_bounded(max_s: float) -> None:
    wanted = (Cut(3, 5, 9, "0003.wav", 0, torn_start=True), Cut(7, 9, 12, "0007.ogg", 0, torn_end=True))
    more = (("de", "en"), wanted, (Stretch(12, 99, True, False), Stretch(120, None)), 8)
    order = Order("opus", 25_000_000, Limits(max_s, 5), *more)
    assert Order.parse(order.line()) == Order("opus", 25_000_000, Limits(min(max_s, 172_800.0), 5), *more)


def test_conversation_of_a_working_child() -> None:
    talk = Conversation(ORDER)
    assert [talk.hear(line_of(event)) for event in EVENTS] == EVENTS


@pytest.mark.parametrize("before", [0, 1, 2, 3, 4])
def test_fault_may_come_at_any_time(before: int) -> None:
    talk = Conversation(ORDER)
    for event in EVENTS[:before]:
        talk.hear(line_of(event))
    with pytest.raises(Fault) as caught:
        talk.hear(line_of(Fault("media.corrupt", "so\x1b[31m bad\n" + "x" * 1000)))
    assert caught.value.code == "media.corrupt"
    assert caught.value.detail.startswith("so [31m bad ")
    assert len(caught.value.detail) == 400
    with pytest.raises(Nonsense):
        talk.hear(line_of(Fault("media.corrupt")))


@pytest.mark.parametrize("code", ["engine.no_quota", "media.timeout", "source.changed", "no.such", None, 7])
def test_fault_that_is_not_a_child_s_to_raise(code: object) -> None:
    with pytest.raises(Nonsense):
        Conversation(ORDER).hear(json.dumps({"event": "fault", "code": code, "detail": ""}).encode())


@pytest.mark.parametrize(
    "events",
    [
        [EVENTS[1]],  # a cut before anything is known
        [EVENTS[4]],
        [EVENTS[0], EVENTS[0]],
        [EVENTS[0], EVENTS[2]],  # a cut left out
        [EVENTS[0], EVENTS[1], EVENTS[1]],
        [EVENTS[0], Decoded(0, 0), Decoded(0, 0)],
        [*EVENTS[:3], Decoded(199_999, 0)],
        [*EVENTS[:3], Decoded(200_001, 0)],  # audio in no cut
        [*EVENTS[:2], Decoded(160_000, 0)],  # torn from nothing
        [*EVENTS[:2], Cut(1, 160_000, 200_000, "0001.ogg", 0)],
        [*EVENTS[:2], Cut(1, 128_000, 200_000, "0001.ogg", 0)],
        [EVENTS[0], Cut(0, 0, 16_000, "0000.ogg", 0), Decoded(16_000, -1)],
        [EVENTS[0], Cut(0, 0, 0, "0000.ogg", 0)],
        [EVENTS[0], Cut(0, 0, 20_000, "0000.ogg", 0, torn_end=True)],  # would go back
        [EVENTS[0], Cut(0, 0, 48 * 3600 * 16_000 + 1, "0000.ogg", 0)],
        [EVENTS[0], Cut(0, 1, 16_000, "0000.ogg", 0)],
        [EVENTS[0], Cut(0, 0, 16_000, "0000.pcm", 0)],
        [EVENTS[0], Cut(0, 0, 16_000, "0001.ogg", 0)],
        [EVENTS[0], Cut(0, 0, 16_000, "../../etc/passwd", 0)],
        [EVENTS[0], Cut(0, 0, 16_000, "0000.ogg\n", 0)],
    ],
)
def test_events_out_of_order_or_range(events: list[MediaEvent]) -> None:
    talk = Conversation(ORDER)
    for event in events[:-1]:
        talk.hear(line_of(event))
    with pytest.raises(Nonsense):
        talk.hear(line_of(events[-1]))


OWED = Order(
    "opus",
    10**6,
    Limits(60.0),
    (),
    (Cut(1, 500, 900, "0001.wav", 0, torn_end=True),),
    (Stretch(100, 500),),
    5,
)


def test_conversation_about_what_is_owed() -> None:
    talk = Conversation(OWED)
    owed = [
        Cut(5, 100, 300, "0005.ogg", 0),
        Cut(1, 500, 900, "0001.wav", 0, torn_end=True),
        Cut(6, 300, 500, "0006.ogg", 0),
    ]
    heard = [talk.hear(line_of(event)) for event in (EVENTS[0], *owed, Decoded(900, 0))]
    assert heard[1:] == [*owed, Decoded(900, 0)]


@pytest.mark.parametrize(
    "events",
    [
        [Cut(1, 500, 901, "0001.wav", 0, torn_end=True)],
        [Cut(1, 500, 900, "0001.wav", 0)],
        [Cut(1, 500, 900, "0001.ogg", 0, torn_end=True)],
        [Cut(5, 100, 501, "0005.ogg", 0)],
        [Cut(5, 500, 600, "0005.ogg", 0)],
        [Cut(6, 100, 300, "0006.ogg", 0)],
        [Cut(5, 100, 500, "0005.ogg", 0), Decoded(900, 0)],  # a known one is missing
        [Cut(1, 500, 900, "0001.wav", 0, torn_end=True), Decoded(900, 0)],  # a new one is
    ],
)
def test_conversation_about_something_else(events: list[MediaEvent]) -> None:
    talk = Conversation(OWED)
    talk.hear(line_of(EVENTS[0]))
    for event in events[:-1]:
        talk.hear(line_of(event))
    with pytest.raises(Nonsense):
        talk.hear(line_of(events[-1]))


@pytest.mark.parametrize(
    "change",
    [
        {"container": "mp3\x1b[2J"}, {"container": ""}, {"container": None}, {"codec": "x" * 41},
        {"duration_s": -1}, {"duration_s": "12"}, {"duration_s": True}, {"duration_s": 1e300},
        {"duration_s": float("nan")}, {"audio_streams": 0}, {"audio_streams": 1.0}, {"audio_streams": True},
        {"audio_streams": 10**9}, {"recorded_at": "soon"}, {"recorded_at": 5},
        {"recorded_at": "2024-03-05T10:00:00"}, {"event": ["probed"]}, {"event": "Probed"},
    ],
)  # fmt: skip
def test_probed_with_values_of_no_file(change: dict[str, Any]) -> None:
    fields = json.loads(line_of(EVENTS[0])) | change
    with pytest.raises(Nonsense):
        Conversation(ORDER).hear(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "line",
    [
        b"", b"[]", b"7", b"null", b"{", b"\xff\xfe", b'{"event": 1e999}', b"[" * 8000, b"9" * 8000,
        b" " * (MAX_LINE_BYTES + 1),
    ],
)  # fmt: skip
def test_line_that_is_no_event(line: bytes) -> None:
    with pytest.raises(Nonsense):
        Conversation(ORDER).hear(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = (
    "container", "codec", "duration_s", "audio_streams", "recorded_at", "index", "start", "end", "file",
    "torn",     "samples", "bad_packets", "code", "detail",
)  # fmt: skip


@given(
    st.sampled_from(["probed", "cut", "decoded", "fault"]),
    st.dictionaries(st.sampled_from(KEYS), JSON),
    st.booleans(),
)
def test_nothing_else_ever_comes_out(event: str, fields: dict[str, Any], probed: bool) -> None:
    talk = Conversation(ORDER)
    if probed:
        talk.hear(line_of(EVENTS[0]))
    line = json.dumps({"event": event, **fields}).encode()
    try:
        heard = talk.hear(line)
    except (Nonsense, Fault):
        return
    assert isinstance(heard, Probed | Cut | Decoded)


def test_cut_names_sort() -> None:
    assert cut_name(0, "opus") == "0000.ogg"
    assert cut_name(12, "pcm") == "0012.pcm"
    assert cut_name(12_345, "pcm") == "12345.pcm"
