"""The engines of one process, by what jobs ask for: a job keeps the model that it was claimed with.

Owns the engines' lifetimes. Which settings make an engine is for the configuration to say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
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
        self._closing: dict[int, contextlib.AsyncExitStack] = {}  # by id() of the engine

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._close_all)
            for name in self._names:
                self._configured[name] = await self._opened(self._build(name, None))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def configured(self) -> Mapping[str, Engine]:
        """Those that the configuration describes, by name; a view that follows ``renew``."""
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
            await self._opened(self._frozen[key])
        return self._frozen[key]

    async def renew(
        self, names: tuple[str, ...], build: Callable[[str, str | None], Engine], anew: Collection[str]
    ) -> list[Engine]:
        """Take other settings; return the engines that nobody will ask for any more.

        ``anew``: names whose settings changed or that are gone; the others keep what they have learned. Work
        that holds an engine keeps it: ``close`` it when that has ended.
        """
        opened = {name: await self._opened(build(name, None)) for name in names if name in anew}
        gone = [engine for name, engine in self._configured.items() if name in anew or name not in names]
        gone += [engine for (name, _), engine in self._frozen.items() if name in anew or name not in names]
        kept = {name: engine for name, engine in self._configured.items() if engine not in gone}
        self._build, self._names = build, names
        self._frozen = {key: engine for key, engine in self._frozen.items() if engine not in gone}
        self._configured.clear()
        self._configured.update({name: opened.get(name) or kept[name] for name in names})
        return gone

    async def close(self, engine: Engine) -> None:
        """Close an engine that ``renew`` returned."""
        if (stack := self._closing.pop(id(engine), None)) is not None:
            await stack.aclose()

    async def _opened(self, engine: Engine) -> Engine:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(engine)
            self._closing[id(engine)] = stack.pop_all()
        return engine

    async def _close_all(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for one in self._closing.values():
                await stack.enter_async_context(one)
            self._closing = {}
