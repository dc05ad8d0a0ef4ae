"""Engines by what jobs ask for: the configured model, and those that were configured once."""

from __future__ import annotations

from typing import Self

import pytest

from tnfd.engines.rack import EngineRack
from tnfd.model import ChunkResult, EngineChoice
from tnfd.ports.engine import Capabilities, Engine, EngineChunk, Hints


class Recorded:
    """An engine that only knows whether it is open."""

    type = "openai"
    capabilities = Capabilities("opus", 1, 1.0, False, 1, 0.0)

    def __init__(self, name: str, model: str) -> None:
        self.name, self.model = name, model
        self.open = 0

    async def __aenter__(self) -> Self:
        self.open += 1
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.open -= 1

    async def warm(self) -> None: ...

    async def transcribe(self, chunk: EngineChunk, hints: Hints) -> ChunkResult:
        raise NotImplementedError


@pytest.fixture
def built() -> list[Recorded]:
    return []


@pytest.fixture
def rack(built: list[Recorded]) -> EngineRack:
    def build(name: str, model: str | None) -> Engine:
        built.append(Recorded(name, model or "new"))
        return built[-1]

    return EngineRack(("lan", "cloud"), build)


async def test_the_configured_engine_serves_its_own_model(rack: EngineRack, built: list[Recorded]) -> None:
    async with rack:
        choice = EngineChoice("lan", "openai", "new")
        assert await rack.get(choice) is built[0]
        assert rack.is_configured(choice)
        assert list(rack.configured) == ["lan", "cloud"]
        assert [engine.open for engine in built] == [1, 1]
    assert [engine.open for engine in built] == [0, 0]


async def test_a_former_model_gets_an_engine_of_its_own_once(rack: EngineRack, built: list[Recorded]) -> None:
    async with rack:
        choice = EngineChoice("lan", "openai", "old")
        former = await rack.get(choice)
        assert former is built[2]
        assert (former.name, former.model) == ("lan", "old")
        assert not rack.is_configured(choice)
        assert await rack.get(choice) is former
        assert await rack.get(EngineChoice("cloud", "openai", "old")) is not former
        assert all(engine.open == 1 for engine in built)
    assert all(engine.open == 0 for engine in built)


@pytest.mark.parametrize(
    "choice", [EngineChoice("gone", "openai", "new"), EngineChoice("lan", "whisper", "new")]
)
async def test_what_is_configured_no_more_is_not_guessed(rack: EngineRack, choice: EngineChoice) -> None:
    async with rack:
        assert await rack.get(choice) is None
        assert not rack.is_configured(choice)
