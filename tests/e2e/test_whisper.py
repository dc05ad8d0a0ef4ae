"""The whisper engine through the real program: a model folder, a model to fetch, a model that is missing."""

from __future__ import annotations

import asyncio
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.e2e.daemon import Site, until
from tests.integration.hub import hub
from tests.whisper_model import build_model

pytestmark = [
    pytest.mark.skipif(find_spec("faster_whisper") is None, reason="faster-whisper is not installed"),
    pytest.mark.timeout(180),
]

SPOKEN = Path(__file__).parent.parent / "data" / "spoken_en.wav"
PATIENCE_S = 120.0  # libraries are loaded on a machine that has other things to do


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("whisper") / "many")


def drop(site: Site, name: str = "talk.wav") -> Path:
    return site.put(site.stage(SPOKEN.read_bytes()), name)


async def test_the_daemon_transcribes_with_times(site: Site, model: Path) -> None:
    engine = {"type": "whisper", "model": str(model), "device": "cpu"}
    site.configure(inbox={"formats": ["txt", "json", "srt"]}, engines={"local": engine})
    talk = drop(site)
    async with site.daemon():
        await until(lambda: site.state_of(talk) == "done", timeout_s=PATIENCE_S)
    status = site.status(talk)
    assert status is not None
    assert status["engine"] == {"name": "local", "type": "whisper", "model": str(model)}
    assert status["timestamps"] == "engine"
    assert status["usage"]["cost_usd"] == 0
    assert status["usage"]["uploaded_bytes"] == 0
    transcript = json.loads(talk.with_suffix(".json").read_text())
    words = [word for segment in transcript["segments"] for word in segment["words"]]
    assert words
    assert words[-1]["end_s"] <= transcript["duration_s"] + 0.1
    assert "-->" in talk.with_suffix(".srt").read_text()


async def test_a_missing_model_pauses_the_engine_until_it_may_be_fetched(site: Site, model: Path) -> None:
    site.configure(engines={"local": {"type": "whisper", "model": "tiny", "device": "cpu"}})
    talk = drop(site)
    async with site.daemon():
        await until(lambda: (site.status(talk) or {}).get("waiting"), timeout_s=PATIENCE_S)
        status = site.status(talk)
        assert status is not None
        assert status["waiting"]["reason"] == "engine_paused"
        assert status["failures"] == 0
        said = (await site.tnfd("status", "--json")).json
        assert said["engines"][0]["reason"] == "engine.model_missing"
        assert any("download = true" in line for line in said["attention"])
    site.configure(engines={"local": {"type": "whisper", "model": "tiny", "device": "cpu", "download": True}})
    with hub(model) as server:
        server.hold.clear()
        async with site.daemon(env={"HF_ENDPOINT": server.url}):
            await asyncio.to_thread(server.half.wait, PATIENCE_S)
            told = await site.tnfd("status", "--json")
            assert told.json["engines"][0]["doing"].startswith("downloading the model: ")
            assert "downloading the model" in " ".join((await site.tnfd("status")).out.split())
            server.hold.set()
            await until(lambda: site.state_of(talk) == "done", timeout_s=PATIENCE_S)
    assert (site.state / "models/Systran--faster-whisper-tiny/model.bin").is_file()


async def test_a_batch_without_any_engine_takes_an_installed_model(site: Site, model: Path) -> None:
    site.config.write_text("")
    talk = drop(site)
    env = {"XDG_STATE_HOME": str(site.base / "xdg")}
    ran = await site.tnfd("batch", talk, env=env)
    assert ran.code == 78  # nothing is installed, and nobody agreed to OpenAI
    shutil.copytree(model, site.base / "xdg/tnfd/models/Systran--faster-whisper-small")
    ran = await site.tnfd("batch", talk, "--json", env=env)
    assert ran.code == 0, ran.err
    assert talk.with_suffix(".txt").read_text().strip()
    status = site.status(talk)
    assert status is not None
    assert status["engine"] == {"name": "whisper", "type": "whisper", "model": "small"}


async def test_a_batch_says_at_once_that_the_model_is_missing(site: Site) -> None:
    site.config.write_text("")
    talk = drop(site)
    ran = await site.tnfd(
        "batch", talk, "--engine", "whisper", env={"XDG_STATE_HOME": str(site.base / "xdg")}
    )
    assert ran.code == 78
    assert "model is not on this machine" in ran.err
    assert "download = true" in ran.err
