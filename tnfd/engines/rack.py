"""The engines of one process, by what jobs ask for: a job keeps the model that it was claimed with.

Owns the engines' lifetimes. Which settings make an engine is for the configuration to say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Self

from tnfd.model import EngineChoice
from tnfd.ports.engine import Engine


class EngineRack:
    """See ``ports.engine.Engines``; an async context manager.

    ``build`` makes the engine for a name and a model (None: the configured one). ``names`` are those that are
    configured; these engines are opened at once, others when a job first asks for them.
    """

    def __init__(self, names: tuple[str, ...], build: Callable[[str, str | None], Engine]) -> None:
        self._names = names
        self._build = build
        self._stack = contextlib.AsyncExitStack()
        self._configured: dict[str, Engine] = {}
        self._frozen: dict[tuple[str, str], Engine] = {}

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            for name in self._names:
                self._configured[name] = await stack.enter_async_context(self._build(name, None))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def configured(self) -> Mapping[str, Engine]:
        """Those that the configuration describes, by name."""
        return MappingProxyType(self._configured)

    def is_configured(self, choice: EngineChoice) -> bool:
        """See the port."""
        engine = self._configured.get(choice.name)
        return engine is not None and (engine.type, engine.model) == (choice.type, choice.model)

    async def get(self, choice: EngineChoice) -> Engine | None:
        """See the port."""
        engine = self._configured.get(choice.name)
        if engine is None or engine.type != choice.type:
            return None
        if engine.model == choice.model:
            return engine
        key = (choice.name, choice.model)
        if key not in self._frozen:
            self._frozen[key] = self._build(choice.name, choice.model)
            await self._stack.enter_async_context(self._frozen[key])
        return self._frozen[key]
