"""Closes what aiokafka has opened, without losing a cancellation or waiting for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

from aiokafka.errors import KafkaError


async def close_within(closing: Awaitable[None], seconds: float) -> None:
    """Await the `stop` or `close` of an aiokafka object, for so many seconds at most.

    A failure to close is not raised: the broker drops the connection by itself. A cancellation of the caller
    is raised after the close. It must not reach aiokafka, whose close awaits tasks that it has cancelled and
    suppresses every CancelledError meanwhile: the caller would not end, and whoever cancelled it would wait
    for ever.
    """
    task = asyncio.ensure_future(_closed(closing, seconds))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def _closed(closing: Awaitable[None], seconds: float) -> None:
    # A broken producer raises AssertionError, and may wait for its broker for ever.
    with suppress(KafkaError, TimeoutError, AssertionError):
        async with asyncio.timeout(seconds):
            await closing
