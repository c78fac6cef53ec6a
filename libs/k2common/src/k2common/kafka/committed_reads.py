"""What a committed read shows now: messages whose commit was acknowledged, and how far a log was written.

A broker that was fenced by its controller may acknowledge a commit and never write its marker; markers are
written per partition, so one message says nothing of the transaction's messages in other partitions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from k2common.errors import TransientError
from k2common.kafka.bounded_close import close_within
from k2common.kafka.standalone_consumer import standalone_consumer, started_consumer
from k2common.settings.kafka import KafkaSettings

POLL_MILLISECONDS = 200


async def require_committed(
    settings: KafkaSettings, messages: Iterable[RecordMetadata], *, seconds: float
) -> None:
    """Return once a committed read has shown the last of `messages` in each of their partitions.

    Raises TransientError for one that was rolled back, or that cannot be read for so many seconds.
    """
    missing: dict[TopicPartition, int] = {}
    for message in messages:
        place = TopicPartition(message.topic, message.partition)
        missing[place] = max(message.offset, missing.get(place, 0))
    try:
        async with asyncio.timeout(seconds), started_consumer(settings, "read_committed") as consumer:
            consumer.assign(list(missing))
            for place, offset in missing.items():
                consumer.seek(place, offset)
            while missing:
                await _read(consumer, missing)
    except (KafkaError, TimeoutError) as error:
        raise TransientError(
            f"what was committed cannot be read: {sorted(missing.items())} {type(error).__name__} {error}"
        ) from error


async def _read(consumer: AIOKafkaConsumer, missing: dict[TopicPartition, int]) -> None:
    fetched = await consumer.getmany(*missing, timeout_ms=POLL_MILLISECONDS)
    for place, offset in list(missing.items()):
        records = fetched.get(place, ())
        if records and records[0].offset == offset:
            del missing[place]
        elif await consumer.position(place) > offset:
            raise TransientError(f"{place.topic} {place.partition}: offset {offset} was rolled back")


class HighWatermarks:
    """Asks for the ends of logs over one connection that is kept."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()
        self._consumer: AIOKafkaConsumer | None = None

    async def of(self, topic: str, partition: int) -> int:
        """The offset after the last record of the partition, also of one in an open transaction.

        Raises TransientError when Kafka is unavailable.
        """
        place = TopicPartition(topic, partition)
        try:
            async with asyncio.timeout(self._settings.request_timeout_seconds):
                return int((await (await self._started()).end_offsets([place]))[place])
        except (KafkaError, TimeoutError) as error:
            await self.close()
            raise TransientError(f"the end of {place} could not be read: {error}") from error

    async def _started(self) -> AIOKafkaConsumer:
        async with self._lock:
            if self._consumer is None:
                consumer = standalone_consumer(self._settings, "read_uncommitted")
                try:
                    await consumer.start()
                # Also when cancelled: nobody else holds the consumer that was begun.
                except BaseException:
                    await close_within(consumer.stop(), self._settings.request_timeout_seconds)
                    raise
                self._consumer = consumer
            return self._consumer

    async def close(self) -> None:
        """Close the connection; the next call opens another."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_within(consumer.stop(), self._settings.request_timeout_seconds)
