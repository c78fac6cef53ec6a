"""This replica's share of the input partitions: one task each, ended before the partition moves on."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from random import Random

from k2common.kafka.consumer import Membership, Place
from k2common.observability.logging import get_logger
from k2common.runtime.readiness import Readiness
from k2common.runtime.retry import until_stopped
from k2common.schemas.datasets import CHUNKS

from csv_loader.partition import PartitionLoader, Tools

GROUP = "csv-loader"
PART = "kafka group"
log = get_logger(__name__)


class Share:
    """Follows the group's assignment until `stop` is set; a task that fails for good ends the process."""

    def __init__(self, *, tools: Tools, readiness: Readiness) -> None:
        self._tools = tools
        self._readiness = readiness
        self._changes: asyncio.Queue[tuple[Set[Place], asyncio.Event]] = asyncio.Queue()
        readiness.waiting(PART, "not a member yet")

    async def run(self, stop: asyncio.Event) -> None:
        """Raises TransientError when Kafka is away at first, SetupError when a partition cannot be read."""
        async with Membership(
            self._tools.settings.kafka, group=GROUP, topics=[CHUNKS.name], changed=self._changed
        ):
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
                tasks = {self._start(partition, ended) for _, partition in places}
                self._tools.metrics.partitions.set(len(places))
                self._readiness.ready(PART)
                log.info("share changed", partitions=sorted(partition for _, partition in places))
                taken_in.set()
        finally:
            stopping.cancel()
            ended.set()
            await _all(tasks)
            while not self._changes.empty():
                self._changes.get_nowait()[1].set()

    def _start(self, partition: int, ended: asyncio.Event) -> asyncio.Task[None]:
        loader = PartitionLoader(partition, tools=self._tools)
        return asyncio.create_task(
            until_stopped(
                lambda: loader.run(ended),
                stop=ended,
                name=f"partition {partition}",
                random=Random(),  # noqa: S311 - scatters retries
            )
        )


async def _all(tasks: Set[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.gather(*tasks)
