"""Two ways of awaiting that asyncio lacks: to the end despite a cancellation, and beside something else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def through(work: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[object]] | None = None) -> T:
    """Run ``work`` to its end in a task of its own; a cancellation meanwhile is raised afterwards.

    ``undo`` then gets the result that nobody will see.
    """
    task = asyncio.ensure_future(work)  # noqa: TID251 - ends within this call
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        failed = task.exception()  # has been dealt with by whoever cancelled
        if failed is None and undo is not None:
            await undo(task.result())
        raise cancelled
    return task.result()


async def beside(main: Coroutine[Any, Any, T], aside: Coroutine[Any, Any, None]) -> T:
    """Return what ``main`` returns, with ``aside`` running meanwhile; neither outlives this call.

    Raises:
        Exception: whatever ``main`` raised; else whatever ``aside`` raised.
    """
    task = asyncio.ensure_future(aside)  # noqa: TID251 - ends within this call
    try:
        result = await main
    except BaseException:
        task.cancel()
        await asyncio.wait({task})
        raise
    await task
    return result
