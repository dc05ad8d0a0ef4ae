"""What engines do not give, through the real program: times, speakers, doubts about what was never said."""

from __future__ import annotations

import array
import json
import shutil
import wave
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Ran, Site, command
from tnfd.testing.api_server import ApiServer
from tnfd.testing.behaviours import Ok, Status

SPOKEN = Path(__file__).parent.parent / "data" / "spoken_en.wav"
TEXT = "Good morning. The door is open and the light is on."
RATE = 16_000


async def batch(site: Site, *arguments: str | Path) -> Ran:
    return await command("batch", *arguments, "--config", site.config, env=site.environ())


def samples(path: Path) -> array.array[int]:
    with wave.open(str(path)) as file:
        return array.array("h", file.readframes(file.getnframes()))


def write(path: Path, data: array.array[int], channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(data.tobytes())
    return path


def silence(seconds: float) -> array.array[int]:
    return array.array("h", [0, 3, -2, 1] * round(seconds * RATE / 4))


def call(site: Site) -> Path:
    """A call: one voice on the left, and once that is done the same on the right."""
    voice = samples(SPOKEN)
    left, right = voice + silence(len(voice) / RATE + 1), silence(len(voice) / RATE + 1) + voice
    stereo = array.array("h", [one for pair in zip(left, right, strict=False) for one in pair])
    return write(site.inbox / "call.wav", stereo, channels=2)


def spoken(site: Site, name: str = "talk.wav") -> Path:
    return Path(shutil.copy(SPOKEN, site.inbox / name))


def transcript(path: Path) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(path.with_suffix(".json").read_text("utf-8"))
    return whole


async def test_text_without_times_gets_them(site: Site, server: ApiServer) -> None:
    pytest.importorskip("pocketsphinx")
    site.configure(inbox={"formats": ["json", "srt"]}, engine={"model": "gpt-transcribe"})
    server.always = Ok(text=TEXT)
    talk = spoken(site)
    assert (await batch(site, talk)).code == 0
    whole, status = transcript(talk), site.status(talk)
    assert status is not None
    assert (whole["timestamps"], status["timestamps"], status["flags"]) == ("aligned", "aligned", [])
    words = [word for segment in whole["segments"] for word in segment["words"]]
    assert [word["text"] for word in words] == TEXT.split()
    assert [word["start_s"] for word in words] == sorted(word["start_s"] for word in words)
    assert 0.4 < words[2]["start_s"] - words[0]["start_s"] < 2.0  # after the pause
    assert "Good morning." in talk.with_suffix(".srt").read_text("utf-8")
    assert (status["languages"], whole["languages"]) == (["en"], ["en"])


async def test_other_languages_are_estimated_and_named(site: Site, server: ApiServer) -> None:
    site.configure(
        inbox={"formats": ["vtt"], "language": ["en", "de"], "name_format": "{stem}.{lang}.{ext}"},
        engine={"model": "gpt-transcribe"},
    )
    server.always = Ok(text="Guten Morgen. Die Tür ist offen und das Licht ist an.")
    talk = spoken(site)
    assert (await batch(site, talk)).code == 0
    status = site.status(talk)
    assert status is not None
    assert (status["timestamps"], status["languages"]) == ("estimated", ["de"])
    assert (site.inbox / "talk.de.vtt").exists()


async def test_times_that_nobody_asked_for_are_flagged_where_they_are_shown(
    site: Site, server: ApiServer
) -> None:
    site.configure(engine={"model": "gpt-transcribe"})
    server.always = Ok(text=TEXT)
    talk = spoken(site)
    assert (await batch(site, talk)).code == 0
    plain = site.status(talk)
    assert plain is not None
    assert (plain["timestamps"], plain["flags"]) == ("none", [])
    copy = spoken(site, "copy.wav")
    assert (await batch(site, copy, "--format", "json,srt")).code == 0
    status = site.status(copy)
    assert status is not None
    assert (status["state"], status["timestamps"]) == ("duplicate", "none")
    assert (status["flags"], transcript(copy)["flags"]) == (["coarse_timing"], ["coarse_timing"])
    assert len(server.requests) == 1


async def test_channels_are_speakers(site: Site, server: ApiServer) -> None:
    names = {"speakers": "channels", "speaker_names": ["Ann"], "formats": ["txt", "md", "json"]}
    site.configure(inbox=names, engine={"model": "gpt-transcribe"})
    server.always = Ok(text=TEXT)
    path = call(site)
    ran = await batch(site, path)
    assert ran.code == 0, ran.err
    assert path.with_suffix(".txt").read_text("utf-8") == f"Ann: {TEXT}\n\nChannel 2: {TEXT}\n"
    segments = transcript(path)["segments"]
    assert {segment["speaker"] for segment in segments} == {"Ann", "Channel 2"}
    length_s = len(samples(SPOKEN)) / RATE
    first = min(segment["start_s"] for segment in segments if segment["speaker"] == "Channel 2")
    assert length_s < first < length_s + 2.5
    assert f"**Channel 2** [00:00:0{int(first)}]" in path.with_suffix(".md").read_text("utf-8")
    assert transcript(path)["duration_s"] == pytest.approx(2 * length_s + 1, abs=0.1)
    status = site.status(path)
    assert status is not None
    assert (status["speakers"], status["usage"]["requests"], status["gaps"]) == ("channels", 2, [])


async def test_one_channel_has_no_speakers(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"speakers": "channels"})
    talk = spoken(site)
    assert (await batch(site, talk)).code == 1
    status = site.status(talk)
    assert status is not None
    assert (status["state"], status["error"]["code"]) == ("failed", "engine.no_speakers")
    assert server.requests == []


async def test_speakers_by_the_engine(site: Site, server: ApiServer) -> None:
    voice = write(site.home / "anna.wav", silence(1) + samples(SPOKEN))
    site.configure(
        inbox={"speakers": "engine", "speaker_names": ["Anna"], "speaker_samples": [str(voice)]},
        engine={"model": "gpt-4o-transcribe-diarize"},
    )
    rows = [
        {"speaker": "Anna", "start": 0.0, "end": 1.0, "text": "Good morning."},
        {"speaker": "A", "start": 1.1, "end": 3.0, "text": "The door is open and the light is on."},
    ]
    server.always = Ok(text=TEXT, extra={"segments": rows})
    talk = spoken(site)
    assert (await batch(site, talk)).code == 0
    assert talk.with_suffix(".txt").read_text("utf-8") == (
        "Anna: Good morning.\n\nSpeaker A: The door is open and the light is on.\n"
    )
    (request,) = server.requests
    assert request.response_format == "diarized_json"
    assert request.fields["chunking_strategy"] == ["auto"]
    assert request.fields["known_speaker_names[]"] == ["Anna"]
    assert request.fields["known_speaker_references[]"][0].startswith("data:audio/wav;base64,UklGR")


async def test_an_engine_without_speakers_is_told_on(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"speakers": "engine"})
    server.always = Status(400, "unsupported_value", message="not a format", param="response_format")
    talk = spoken(site)
    assert (await batch(site, talk)).code == 1
    status = site.status(talk)
    assert status is not None
    assert status["error"]["code"] == "engine.no_speakers"


async def test_a_local_engine_that_knows_no_speakers_says_so(site: Site) -> None:
    site.configure(inbox={"speakers": "engine"}, engines={"sphinx": {"type": "sphinx"}})
    talk = spoken(site)
    assert (await batch(site, talk)).code == 1
    status = site.status(talk)
    assert status is not None
    assert status["error"]["code"] == "engine.no_speakers"
    assert "sphinx" in status["error"]["message"]


async def test_an_answer_without_speakers_is_no_success(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"speakers": "engine"}, engine={"model": "gpt-4o-transcribe-diarize"})
    server.always = Ok(text=TEXT, extra={"segments": [{"start": 0, "end": 3, "text": TEXT}]})
    talk = spoken(site)
    assert (await batch(site, talk)).code == 1
    status = site.status(talk)
    assert status is not None
    assert (status["error"]["code"], status["usage"]["requests"]) == ("engine.no_speakers", 1)


LOOP = f"{TEXT} {'The light is on. ' * 10}".strip()


async def test_a_doubtful_answer_is_asked_for_once_more(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"formats": ["txt", "json"]})
    server.script(Ok(text=LOOP), Ok(text=TEXT))
    talk = spoken(site)
    assert (await batch(site, talk)).code == 0
    assert talk.with_suffix(".txt").read_text("utf-8") == f"{TEXT}\n"
    first, second = server.requests
    assert first.sha256 != second.sha256
    status = site.status(talk)
    assert status is not None
    assert (status["flags"], status["doubts"], status["usage"]["requests"]) == ([], [], 2)
    assert status["usage"]["audio_s"] == pytest.approx(first.audio_s + second.audio_s, abs=0.2)


async def test_what_stays_doubtful_is_flagged_where_it_is(site: Site, server: ApiServer) -> None:
    site.configure(inbox={"formats": ["txt", "json", "md", "vtt"]})
    server.always = Ok(text=LOOP)
    talk = spoken(site)
    assert (await batch(site, talk)).code == 0
    status, whole = site.status(talk), transcript(talk)
    assert status is not None
    assert (status["state"], status["flags"], len(server.requests)) == ("done", ["repetition"], 2)
    (doubt,) = status["doubts"]
    assert whole["doubts"] == [doubt]
    assert 0.0 < doubt["start_s"] < doubt["end_s"]
    assert "repetition" in talk.with_suffix(".md").read_text("utf-8")
    assert "NOTE Doubtful: repetition" in talk.with_suffix(".vtt").read_text("utf-8")
    assert whole["text"] == LOOP  # nothing is taken away


async def test_a_second_answer_that_does_not_come_costs_nothing_but_a_flag(
    site: Site, server: ApiServer
) -> None:
    server.script(Ok(text=LOOP))
    server.always = Status(400, "invalid_value", message="no")
    talk = spoken(site)
    assert (await batch(site, talk)).code == 0
    status = site.status(talk)
    assert status is not None
    assert (status["state"], status["flags"]) == ("done", ["repetition"])


async def test_silence_with_a_closing_phrase_ends_up_empty(site: Site, server: ApiServer) -> None:
    hiss = array.array("h", [0, 40, -35, 12] * (10 * RATE // 4))
    talk = write(site.inbox / "talk.wav", hiss)
    server.script(Ok(text="Thanks for watching!"), Ok(text=""))
    assert (await batch(site, talk)).code == 0
    assert talk.with_suffix(".txt").read_text("utf-8") == ""
    status = site.status(talk)
    assert status is not None
    assert status["flags"] == ["no_speech"]
