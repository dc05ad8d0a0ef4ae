"""What the child does with files, run in the test's own process: real containers, real codecs, real disk."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.integration import media_files as make
from tnfd.errors import Fault
from tnfd.media.encode import CutFile, OpusEncoder, PcmEncoder, Sink, fault_of_write
from tnfd.media.recording import recorded_at
from tnfd.media.task import prepare_recording
from tnfd.media.wire import Order
from tnfd.model import Cut, Encoding, MediaInfo
from tnfd.ports.media import Decoded, MediaEvent, Probed
from tnfd.rules.cuts import Limits

Prepare = Callable[..., list[MediaEvent]]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def prepare(scratch: Path) -> Prepare:
    def run(
        path: Path,
        *,
        encoding: Encoding = "pcm",
        max_bytes: int = 25_000_000,
        max_s: float = 1400.0,
        languages: tuple[str, ...] = (),
    ) -> list[MediaEvent]:
        events: list[MediaEvent] = []
        source_fd, scratch_fd = os.open(path, os.O_RDONLY), os.open(scratch, os.O_RDONLY)
        try:
            prepare_recording(
                source_fd, scratch_fd, Order(encoding, max_bytes, Limits(max_s), languages), events.append
            )
        finally:
            os.close(source_fd)
            os.close(scratch_fd)
        return events

    return run


def parts(events: list[MediaEvent]) -> tuple[MediaInfo, Cut, Decoded]:
    probed, cut, decoded = events
    assert isinstance(probed, Probed)
    assert isinstance(cut, Cut)
    assert isinstance(decoded, Decoded)
    return probed.media, cut, decoded


KINDS = [
    # suffix, codec, container's name, codec's name, rate, layout, encoder delay that the format cannot undo
    ("wav", "pcm_s16le", "wav", "pcm_s16le", 44_100, "stereo", 0.0),
    ("mp3", "libmp3lame", "mp3", "mp3", 44_100, "mono", 0.0),
    ("m4a", "aac", "m4a", "aac", 44_100, "stereo", 0.03),
    ("opus", "libopus", "ogg", "opus", 48_000, "mono", 0.01),
    ("flac", "flac", "flac", "flac", 48_000, "stereo", 0.0),
    ("webm", "libopus", "matroska", "opus", 48_000, "mono", 0.03),
    ("mkv", "ac3", "matroska", "ac3", 48_000, "stereo", 0.05),
    ("aac", "aac", "aac", "aac", 16_000, "mono", 0.2),
    ("mov", "aac", "mov", "aac", 16_000, "mono", 0.07),
    ("3gp", "aac", "3gp", "aac", 16_000, "mono", 0.07),
    ("aiff", "pcm_s16be", "aiff", "pcm_s16be", 8_000, "mono", 0.0),
]


@pytest.mark.parametrize(("suffix", "encoder", "container", "codec", "rate", "layout", "slack_s"), KINDS)
def test_kind_is_probed_and_decoded(
    prepare: Prepare, tmp_path: Path, scratch: Path, suffix: str, encoder: str, container: str, codec: str,
    rate: int, layout: str, slack_s: float,
) -> None:  # fmt: skip
    fmt = "adts" if suffix == "aac" else None
    path = make.audio(tmp_path / f"a.{suffix}", 2.0, encoder, rate=rate, layout=layout, fmt=fmt)

    media, cut, decoded = parts(prepare(path))

    assert (media.container, media.codec, media.audio_streams) == (container, codec, 1)
    assert media.duration_s is None or media.duration_s == pytest.approx(2.0, abs=0.1)
    assert decoded.bad_packets == 0
    assert decoded.samples == cut.end_sample == pytest.approx(32_000, abs=16 + 16_000 * slack_s)
    assert cut == Cut(0, 0, decoded.samples, "0000.pcm", decoded.samples * 2)
    assert (scratch / "0000.pcm").stat().st_size == cut.size_bytes


@pytest.mark.parametrize("seconds", [0.05, 0.95, 7.3])
def test_opus_decodes_to_the_cut_s_length(
    prepare: Prepare, tmp_path: Path, scratch: Path, seconds: float
) -> None:
    _, cut, _ = parts(prepare(make.wav(tmp_path / "a.wav", seconds), encoding="opus"))

    encoded = scratch / cut.file
    assert cut.file == "0000.ogg"
    assert cut.size_bytes == encoded.stat().st_size
    assert cut.duration_s == pytest.approx(seconds, abs=1e-4)
    assert make.seconds_of(encoded) == pytest.approx(seconds, abs=0.1)
    with av.open(str(encoded)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == "opus"
    assert stat.S_IMODE(encoded.stat().st_mode) == 0o600
    assert os.listdir(scratch) == [cut.file]


def test_pcm_is_the_sound_of_the_source(prepare: Prepare, tmp_path: Path, scratch: Path) -> None:
    path = make.wav(tmp_path / "a.wav", 1.0)
    prepare(path)
    assert (scratch / "0000.pcm").read_bytes() == path.read_bytes()[44:]


def test_shared_descriptor_s_offset_does_not_matter(tmp_path: Path, scratch: Path) -> None:
    path = make.wav(tmp_path / "a.wav", 0.5)
    events: list[MediaEvent] = []
    with path.open("rb") as source:
        source.seek(5000)
        scratch_fd = os.open(scratch, os.O_RDONLY)
        prepare_recording(source.fileno(), scratch_fd, Order("pcm", 10**6, Limits(60.0)), events.append)
        os.close(scratch_fd)
        assert source.tell() == 5000
    assert parts(events)[2].samples == 8000


def test_cut_of_an_earlier_crash_is_replaced(prepare: Prepare, tmp_path: Path, scratch: Path) -> None:
    (scratch / "0000.pcm").write_bytes(b"half")
    (scratch / ".0000.pcm.tmp").write_bytes(b"x" * 100_000)
    prepare(make.wav(tmp_path / "a.wav", 0.5))
    assert os.listdir(scratch) == ["0000.pcm"]
    assert (scratch / "0000.pcm").stat().st_size == 16_000


@pytest.mark.parametrize(
    ("languages", "expected_s"),
    [((), 2.0), (("de",), 1.0), (("ger",), 1.0), (("fr", "de"), 1.0), (("fr",), 2.0), (("en",), 2.0)],
)
def test_film_s_track_is_chosen_by_language(
    prepare: Prepare, tmp_path: Path, languages: tuple[str, ...], expected_s: float
) -> None:
    path = make.film(
        tmp_path / "film.mp4", 2.0, [("eng", 2.0), ("deu", 1.0)],
        metadata={"creation_time": "2024-03-05T10:00:00.000000Z"},
    )  # fmt: skip
    media, cut, _ = parts(prepare(path, languages=languages))
    assert media.audio_streams == 2
    assert media.container == "mp4"
    assert media.recorded_at == "2024-03-05T10:00:00Z"
    assert cut.duration_s == pytest.approx(expected_s, abs=0.1)


def test_sound_that_starts_late_keeps_its_place(prepare: Prepare, tmp_path: Path) -> None:
    path = make.film(tmp_path / "late.mkv", 4.0, [("eng", 1.0)], audio_start_s=2.5)
    assert parts(prepare(path))[1].duration_s == pytest.approx(3.5, abs=0.15)


def test_film_without_sound(prepare: Prepare, tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"media\.no_audio"):
        prepare(make.film(tmp_path / "mute.mkv", 1.0, []))


def test_audio_of_no_length_yields_no_cut(prepare: Prepare, tmp_path: Path, scratch: Path) -> None:
    path = tmp_path / "none.wav"
    path.write_bytes(make.wav_header(0, 16_000))
    events = prepare(path)
    assert isinstance(events[0], Probed)
    assert events[1:] == [Decoded(0, 0)]
    assert os.listdir(scratch) == []


def test_text_is_not_media(prepare: Prepare, tmp_path: Path) -> None:
    path = tmp_path / "notes.mp3"
    path.write_text("These are only words. " * 300)
    with pytest.raises(Fault, match=r"media\.not_media"):
        prepare(path)


@pytest.mark.parametrize("kind", ["m3u8", "ffconcat", "sdp"])
def test_file_that_names_others_is_refused(
    prepare: Prepare, tmp_path: Path, scratch: Path, kind: str
) -> None:
    other = make.wav(tmp_path / "private.wav", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        text = {
            "m3u8": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n"
            f"#EXTINF:10,\nfile:{other}\n#EXTINF:10,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
            "ffconcat": f"ffconcat version 1.0\nfile {other}\n",
            "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        }[kind]
        path = tmp_path / "talk.mp3"
        path.write_text(text)
        with pytest.raises(Fault, match=r"media\.not_media"):
            prepare(path)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert os.listdir(scratch) == []


def test_truncated_file_yields_what_there_is(prepare: Prepare, tmp_path: Path) -> None:
    path = make.audio(tmp_path / "cut.mp3", 4.0, "libmp3lame")
    os.truncate(path, path.stat().st_size // 2)
    media, cut, _ = parts(prepare(path))
    assert media.duration_s == pytest.approx(4.0, abs=0.1)  # the header still promises it
    assert cut.duration_s == pytest.approx(2.0, abs=0.2)


def test_bad_packets_are_counted_and_skipped(prepare: Prepare, tmp_path: Path) -> None:
    path = make.audio(tmp_path / "bad.m4a", 6.0, "aac")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = b"\xff" * 3000
    path.write_bytes(data)
    _, cut, decoded = parts(prepare(path))
    assert decoded.bad_packets > 0
    assert cut.duration_s == pytest.approx(6.0, abs=0.4)  # silence stands in for what is lost


def test_codec_that_nobody_knows_is_corrupt(prepare: Prepare, tmp_path: Path) -> None:
    path = make.wav(tmp_path / "odd.wav", 0.5)
    data = bytearray(path.read_bytes())
    data[20:22] = b"\x34\x12"
    path.write_bytes(data)
    with pytest.raises(Fault, match=r"media\.corrupt.*no decoder"):
        prepare(path)


def test_reading_that_fails_is_no_fault_of_the_file(prepare: Prepare, tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"source\.io.*Is a directory"):
        prepare(tmp_path)


def test_nothing_decodable_is_corrupt(prepare: Prepare, tmp_path: Path, scratch: Path) -> None:
    path = make.audio(tmp_path / "bad.m4a", 3.0, "aac")
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.rindex(b"moov") - 4
    data[start:end] = b"\xff" * (end - start)
    path.write_bytes(data)
    with pytest.raises(Fault, match=r"media\.corrupt"):
        prepare(path)
    assert os.listdir(scratch) == []


def test_format_that_changes_midway(prepare: Prepare, tmp_path: Path) -> None:
    first = make.audio(tmp_path / "1.mp3", 2.0, "libmp3lame", rate=44_100, layout="stereo")
    second = make.audio(tmp_path / "2.mp3", 2.0, "libmp3lame", rate=22_050, layout="mono")
    path = tmp_path / "joined.mp3"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert parts(prepare(path))[1].duration_s == pytest.approx(4.0, abs=0.3)


def test_streams_that_turn_up_late_do_no_harm(prepare: Prepare, tmp_path: Path) -> None:
    first = make.film(tmp_path / "1.ts", 12.0, [("eng", 12.0)], video=False)
    second = make.film(tmp_path / "2.ts", 2.0, [("eng", 2.0), ("deu", 2.0)], video=False)
    path = tmp_path / "joined.ts"
    # In the middle: probing looks at both ends.
    path.write_bytes(first.read_bytes() + second.read_bytes() + 4 * first.read_bytes())
    media, cut, _ = parts(prepare(path))
    assert media.audio_streams == 1
    assert cut.duration_s == pytest.approx(62.0, abs=1.0)


def test_guessed_length_is_no_promise(prepare: Prepare, tmp_path: Path) -> None:
    path = make.audio(tmp_path / "a.aac", 2.0, "aac", rate=16_000, fmt="adts")
    assert parts(prepare(path))[0].duration_s is None


@pytest.mark.parametrize("channels", [3, 6, 16, 64])
def test_many_channels_become_one(prepare: Prepare, tmp_path: Path, scratch: Path, channels: int) -> None:
    path = make.wav(tmp_path / "field.wav", 0.2, channels=channels)
    prepare(path)
    mixed = (scratch / "0000.pcm").read_bytes()
    single = make.warble(0.2, 16_000)
    assert len(mixed) == len(single)
    loudest = max(memoryview(mixed).cast("h")) / max(memoryview(single).cast("h"))
    assert loudest == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("claimed", [1, 3999, 768_001, 2**31 - 1])
def test_rates_of_no_microphone_are_refused(prepare: Prepare, tmp_path: Path, claimed: int) -> None:
    with pytest.raises(Fault, match=r"media\.limits.*samples a second"):
        prepare(make.wav(tmp_path / "odd.wav", 0.2, claimed_rate=claimed))


def test_too_many_channels_are_refused(prepare: Prepare, tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    path.write_bytes(make.wav_header(13_000, 16_000, 65) + bytes(13_000))
    with pytest.raises(Fault, match=r"media\.limits.*65 channels"):
        prepare(path)


def test_beyond_all_bounds_by_its_header(prepare: Prepare, tmp_path: Path, scratch: Path) -> None:
    path = make.long_silence(tmp_path / "long.wav", 48.1)
    with pytest.raises(Fault) as caught:  # at once: decoding it would take minutes
        prepare(path)
    assert (caught.value.code, caught.value.detail) == ("media.too_long", "more than 48 hours")
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("encoding", ["pcm", "opus"])
def test_too_many_bytes(prepare: Prepare, tmp_path: Path, scratch: Path, encoding: Encoding) -> None:
    path = make.wav(tmp_path / "a.wav", 8.0)
    with pytest.raises(Fault, match=r"media\.too_long.*8000 bytes of one request"):
        prepare(path, encoding=encoding, max_bytes=8_000)
    assert os.listdir(scratch) == []


def test_bytes_that_the_encoder_held_back_count_too(prepare: Prepare, tmp_path: Path, scratch: Path) -> None:
    with pytest.raises(Fault, match=r"media\.too_long"):
        prepare(make.wav(tmp_path / "a.wav", 0.5), encoding="opus", max_bytes=300)
    assert os.listdir(scratch) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("encoder", [PcmEncoder, OpusEncoder])
def test_full_disk(encoder: type[PcmEncoder | OpusEncoder]) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        writing = encoder(Sink(full.fileno()))
        with pytest.raises(Fault, match=r"output\.disk_full"):  # noqa: PT012  where it shows is the codec's
            writing.write(make.warble(3.0, 16_000))
            writing.close()


def test_write_failures_are_told_apart() -> None:
    assert fault_of_write(OSError(errno.EDQUOT, "quota")).code == "output.disk_full"
    assert fault_of_write(OSError(errno.EROFS, "read-only")).code == "output.io"


def test_cut_goes_nowhere_through_a_link(tmp_path: Path, scratch: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (scratch / ".0000.pcm.tmp").symlink_to(victim)
    scratch_fd = os.open(scratch, os.O_RDONLY)
    with pytest.raises(Fault, match=r"output\.io"):
        CutFile(scratch_fd, "0000.pcm", "pcm")
    os.close(scratch_fd)
    assert victim.read_text() == "mine"


def test_stopping_leaves_nothing_behind(tmp_path: Path, scratch: Path) -> None:
    source_fd = os.open(make.long_silence(tmp_path / "long.wav", 10.0), os.O_RDONLY)
    scratch_fd = os.open(scratch, os.O_RDONLY)
    order = Order("pcm", 10**10, Limits(10.0**6))
    with pytest.raises(BrokenPipeError):
        prepare_recording(source_fd, scratch_fd, order, lambda _: None, stop=lambda: True)
    os.close(source_fd)
    os.close(scratch_fd)
    assert os.listdir(scratch) == []


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, None),
        ({"creation_time": "2024-03-05T10:00:00.123456Z"}, "2024-03-05T10:00:00Z"),
        ({"creation_time": "1904-01-01T00:00:00.000000Z"}, None),
        ({"creation_time": "1970-01-01T00:00:00.000000Z"}, None),
        ({"creation_time": "yesterday"}, None),
        ({"creation_time": "2024-03-05T10:00:00"}, None),  # of which time zone?
        ({"creation_time": "0001-01-01T00:00:00+14:00"}, None),
        (
            {
                "creation_time": "2024-06-01T00:00:00Z",
                "com.apple.quicktime.creationdate": "2024-03-05T11:00:00+0100",
            },
            "2024-03-05T10:00:00Z",
        ),
    ],
)
def test_recorded_at(metadata: dict[str, str], expected: str | None) -> None:
    assert recorded_at(metadata) == expected
