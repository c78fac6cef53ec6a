"""Follows a whole topic: every committed record of every partition, from the start or from given offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from aiokafka import ConsumerRecord

from k2common.kafka.consumer import MessageReader
from k2common.schemas.datasets import Topic
from k2common.settings.kafka import KafkaSettings

BATCH = 500
WAIT_SECONDS = 0.5


class Follower:
    """Hands each record of `topic` to `on_record`, in order per partition.

    `caught_up` is set once the records that the topic held when `run` began have been handed over. After a
    TransientError `run` may be called again: it goes on where it was. A start that the log no longer holds
    counts as its beginning.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: Topic,
        *,
        on_record: Callable[[ConsumerRecord], Awaitable[None]],
        starts: Mapping[int, int] | None = None,
    ) -> None:
        self.caught_up = asyncio.Event()
        self._settings = settings
        self._topic = topic
        self._on_record = on_record
        self._positions: dict[int, int | None] = dict.fromkeys(range(topic.partitions)) | dict(starts or {})

    @property
    def positions(self) -> Mapping[int, int]:
        """The next offset per partition; a partition whose start is not known yet is left out."""
        return {partition: at for partition, at in self._positions.items() if at is not None}

    async def until_caught_up(self, stop: asyncio.Event) -> bool:
        """Wait until `caught_up` or `stop` is set; whether the former is."""
        waits = {asyncio.create_task(event.wait()) for event in (self.caught_up, stop)}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return self.caught_up.is_set()

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until `stop`.

        Raises TransientError when Kafka is away.
        """
        starts = {(self._topic.name, partition): at for partition, at in self._positions.items()}
        async with MessageReader(self._settings, starts, lost_is_beginning=True) as reader:
            ends = await reader.ends()
            while not stop.is_set():
                at = await reader.positions()
                for (_, partition), offset in at.items():
                    self._positions[partition] = offset
                if all(at[place] >= end for place, end in ends.items()):
                    self.caught_up.set()
                for records in (await reader.fetch(limit=BATCH, wait_seconds=WAIT_SECONDS)).values():
                    for record in records:
                        await self._on_record(record)
                        self._positions[record.partition] = record.offset + 1
