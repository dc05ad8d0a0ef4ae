"""Finishing what must be finished although the task has been cancelled."""

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
