"""Consumers without a group, for reads of given partitions that end soon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer

from k2common.kafka.bounded_close import close_within
from k2common.settings.kafka import KafkaSettings


def standalone_consumer(settings: KafkaSettings, isolation: str) -> AIOKafkaConsumer:
    """Return a consumer that is not started and has no partitions; `isolation` is Kafka's isolation level."""
    return AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers,
        group_id=None,
        isolation_level=isolation,
        auto_offset_reset="none",
        enable_auto_commit=False,
        request_timeout_ms=int(settings.request_timeout_seconds * 1000),
        max_partition_fetch_bytes=settings.max_request_bytes,
        retry_backoff_ms=10,
    )


@asynccontextmanager
async def started_consumer(settings: KafkaSettings, isolation: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A standalone consumer that is stopped at the end. Raises KafkaError."""
    consumer = standalone_consumer(settings, isolation)
    try:
        await consumer.start()
        yield consumer
    finally:
        await close_within(consumer.stop(), settings.request_timeout_seconds)
