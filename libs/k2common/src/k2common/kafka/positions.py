"""What a compacted partition holds, read to its end by an owner that has fenced all earlier ones.

Call these after the transactional producer was entered; read before the fence, an answer may be stale, and a
position that is stale doubles rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from k2common.errors import SetupError, TransientError
from k2common.kafka.standalone_consumer import started_consumer
from k2common.settings.kafka import KafkaSettings

Decoded = TypeVar("Decoded")
FIRST_WINDOW = 200
WINDOW_GROWTH = 8
RETRY_SECONDS = 0.01


async def last_record(settings: KafkaSettings, topic: str, partition: int) -> ConsumerRecord:
    """The last committed record of the partition. Raises as `last_decoded`."""

    async def itself(record: ConsumerRecord) -> ConsumerRecord:
        return record

    return await last_decoded(settings, topic, partition, itself)


async def last_decoded(
    settings: KafkaSettings,
    topic: str,
    partition: int,
    decode: Callable[[ConsumerRecord], Awaitable[Decoded | None]],
) -> Decoded:
    """What `decode` makes of the last committed record of the partition of which it makes anything.

    Raises SetupError when there is none (such partitions are seeded when the topic is made), TransientError
    when the broker does not answer or a transaction stays open for longer than a request may take.
    """
    async with _at_end(settings, TopicPartition(topic, partition)) as (consumer, begin, end):
        window, below = FIRST_WINDOW, end
        while True:
            start = max(begin, end - window)
            records = await _read(consumer, TopicPartition(topic, partition), start, below)
            for record in reversed([record for record in records if record.offset < below]):
                if (decoded := await decode(record)) is not None:
                    return decoded
            if start == begin:
                raise SetupError(f"partition {partition} of {topic} is empty; it was not provisioned")
            window, below = window * WINDOW_GROWTH, start


async def all_records(settings: KafkaSettings, topic: str, partition: int) -> list[ConsumerRecord]:
    """Every committed record of the partition that compaction has left, in order.

    Raises TransientError as `last_record` does.
    """
    async with _at_end(settings, TopicPartition(topic, partition)) as (consumer, begin, end):
        return await _read(consumer, TopicPartition(topic, partition), begin, end)


async def log_start(settings: KafkaSettings, topic: str, partition: int) -> int:
    """The first offset that the log of the partition still holds.

    Raises TransientError when the broker does not answer.
    """
    place = TopicPartition(topic, partition)
    try:
        async with started_consumer(settings, "read_committed") as consumer:
            return int((await consumer.beginning_offsets([place]))[place])
    except KafkaError as error:
        raise TransientError(f"the start of {place} could not be read: {error}") from error


async def high_watermarks(
    settings: KafkaSettings, topics: Mapping[str, int]
) -> Mapping[tuple[str, int], int]:
    """The offset after the last record of each topic and partition, open transactions' records too.

    `topics` has the number of partitions of each. Every record that was acknowledged before the call lies
    below. Raises TransientError when the broker does not answer.
    """
    places = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
    try:
        async with (
            asyncio.timeout(settings.request_timeout_seconds),
            started_consumer(settings, "read_uncommitted") as consumer,
        ):
            ends = await consumer.end_offsets(places)
    except (KafkaError, TimeoutError) as error:
        raise TransientError(f"the ends of {sorted(topics)} could not be read: {error}") from error
    return {(place.topic, place.partition): end for place, end in ends.items()}


@asynccontextmanager
async def _at_end(
    settings: KafkaSettings, place: TopicPartition
) -> AsyncIterator[tuple[AIOKafkaConsumer, int, int]]:
    try:
        async with asyncio.timeout(settings.request_timeout_seconds):
            while True:
                async with started_consumer(settings, "read_uncommitted") as probe:
                    high_watermark = (await probe.end_offsets([place]))[place]
                async with started_consumer(settings, "read_committed") as consumer:
                    # Under read_committed this is the last stable offset.
                    stable = (await consumer.end_offsets([place]))[place]
                    if stable == high_watermark:
                        begin = (await consumer.beginning_offsets([place]))[place]
                        consumer.assign([place])
                        yield consumer, begin, stable
                        return
                await asyncio.sleep(RETRY_SECONDS)
    except (KafkaError, TimeoutError) as error:
        raise TransientError(
            f"the end of {place} could not be read: {type(error).__name__} {error}"
        ) from error


async def _read(
    consumer: AIOKafkaConsumer, place: TopicPartition, start: int, end: int
) -> list[ConsumerRecord]:
    records: list[ConsumerRecord] = []
    consumer.seek(place, start)
    # An empty answer only means control records or records that compaction has removed.
    while await consumer.position(place) < end:
        fetched = await consumer.getmany(place, timeout_ms=100)
        records.extend(fetched.get(place, ()))
    return records
