"""This replica's share of the partitions of some topics, and the work on it.

Work on a share has ended before any of its partitions is given to another replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from random import Random
from typing import TypeAlias

from k2common.kafka.consumer import Membership, Place
from k2common.observability.logging import get_logger
from k2common.runtime.readiness import Readiness
from k2common.runtime.retry import Retried, ignore_retry, until_stopped
from k2common.settings.kafka import KafkaSettings

PART = "kafka group"
Work: TypeAlias = Callable[[asyncio.Event], Awaitable[None]]
"""Works until the event is set. After a TransientError it is restarted."""

log = get_logger(__name__)


class Assignment:
    """Follows the group's assignment; work that fails for good ends the process."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        group: str,
        topics: Sequence[str],
        works: Callable[[Set[Place]], Mapping[str, Work]],
        readiness: Readiness,
        retried: Retried = ignore_retry,
    ) -> None:
        """`works` gives the work on a share, by name."""
        self._settings = settings
        self._group = group
        self._topics = topics
        self._works = works
        self._readiness = readiness
        self._retried = retried
        self._changes: asyncio.Queue[tuple[Set[Place], asyncio.Event]] = asyncio.Queue()
        readiness.waiting(PART, "not a member yet")

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`.

        Raises TransientError when Kafka is unavailable at first, and whatever a work fails with for good.
        """
        async with Membership(self._settings, group=self._group, topics=self._topics, changed=self._changed):
            await self._follow(stop)

    async def _changed(self, places: Set[Place]) -> None:
        taken_in = asyncio.Event()
        self._changes.put_nowait((places, taken_in))
        # The group gives the partitions to others only when this returns.
        await taken_in.wait()

    async def _follow(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        ended = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()
        try:
            while not stop.is_set():
                change = asyncio.create_task(self._changes.get())
                await asyncio.wait({change, stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task.done():
                        task.result()
                if not change.done():
                    change.cancel()
                    continue
                places, taken_in = change.result()
                ended.set()
                await _all(tasks)
                ended = asyncio.Event()
                tasks = {
                    _start(name, work, ended, self._retried) for name, work in self._works(places).items()
                }
                self._readiness.ready(PART)
                log.info("share changed", partitions=sorted(f"{topic} {number}" for topic, number in places))
                taken_in.set()
        finally:
            stopping.cancel()
            ended.set()
            await _all(tasks)
            while not self._changes.empty():
                self._changes.get_nowait()[1].set()


def _start(name: str, work: Work, ended: asyncio.Event, retried: Retried) -> asyncio.Task[None]:
    random = Random()  # noqa: S311 - scatters retries
    return asyncio.create_task(
        until_stopped(lambda: work(ended), stop=ended, name=name, random=random, retried=retried)
    )


async def _all(tasks: Set[asyncio.Task[None]]) -> None:
    # All of them, also after one has failed: none may work on when others are given its partitions.
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        task.result()
