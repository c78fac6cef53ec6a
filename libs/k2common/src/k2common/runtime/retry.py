"""Again after a transient failure, each time later, until it works or the service stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import TypeAlias, TypeVar

from k2common.errors import TransientError
from k2common.observability.logging import get_logger

Result = TypeVar("Result")
Retried: TypeAlias = Callable[[str], None]
"""Called with the name of work that is about to be restarted."""
log = get_logger(__name__)


def delays(*, first: float, limit: float, random: Random) -> Iterator[float]:
    """Seconds to wait before each new try: doubling from `first` to `limit`, each between half and whole."""
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1)
        delay = min(delay * 2, limit)


async def wait_or_stop(stop: asyncio.Event, seconds: float) -> bool:
    """Wait for `seconds` or until `stop` is set; whether it is."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def ignore_retry(_name: str) -> None:
    """Nobody counts."""


def lasting(
    name: str,
    work: Callable[[asyncio.Event], Awaitable[None]],
    stop: asyncio.Event,
    *,
    retried: Retried = ignore_retry,
) -> Callable[[], Awaitable[None]]:
    """A service's loop: `work` until `stop` is set, restarted after each TransientError."""
    random = Random()  # noqa: S311 - scatters retries
    return lambda: until_stopped(lambda: work(stop), stop=stop, name=name, random=random, retried=retried)


async def until_stopped(
    work: Callable[[], Awaitable[None]],
    *,
    stop: asyncio.Event,
    name: str,
    random: Random,
    retried: Retried = ignore_retry,
) -> None:
    """Run `work` again after each TransientError until it returns or `stop` is set.

    So it is after a cancellation that nobody asked for: who waits for a future that a library has cancelled
    ends like a task that was told to, which a group of tasks takes for an orderly end.
    `name` is that of a metric's label: one of few.
    """
    waits = delays(first=0.1, limit=5, random=random)
    while not stop.is_set():
        try:
            await work()
            return
        except TransientError as error:
            trouble = str(error)
        except asyncio.CancelledError:
            if _is_asked_to_end():
                raise
            trouble = "it was cancelled, and nobody asked for that"
        log.warning("work failed and is tried again", work=name, error=trouble)
        retried(name)
        await wait_or_stop(stop, next(waits))


def _is_asked_to_end() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
