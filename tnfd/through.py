"""Two ways of awaiting that asyncio lacks: to the end despite a cancellation, and beside something else."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def through(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end in a task of its own; a cancellation meanwhile is raised afterwards."""
    task = asyncio.ensure_future(work)  # noqa: TID251 - ends within this call
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # it has been dealt with by whoever cancelled
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
