"""Chunks that Kafka deleted before they were parsed: their upload fails by name, and the loader goes on."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from csv_loader.partition import LoaderDependencies, PartitionLoader
from k2common.columnar.partition import partition_of
from k2common.kafka.positions import log_start
from k2common.kafka.producer import TransactionalProducer
from k2common.schemas.datasets import CHUNKS, CLAIMS
from ulid import ULID

from tests.integration.loader.chunks import chunk, statuses_of

PARTITION = 3
LIMIT_SECONDS = 60


def claim(first: dict[str, Any], *, next_chunk: int) -> dict[str, Any]:
    return {
        "upload": first["upload"],
        "identity": "i",
        "idempotency_key": None,
        "state": "published",
        "replica": "0",
        "next_chunk": next_chunk,
        "next_byte": 1,
        "next_line": 1,
        "header": None,
        "chunk_partition": PARTITION,
        "updated_at": datetime.now(UTC),
        "outcome": None,
        "released": False,
    }


async def publish(tools: LoaderDependencies, upload_id: str, indexes: range, *, count: int) -> int:
    """The chunks of an upload of `count`, and its claim; the offset after them."""
    first = chunk(upload_id, "trades")
    async with (
        TransactionalProducer(tools.settings.kafka, "test-expired") as producer,
        producer.transaction() as work,
    ):
        sent = []
        for index in indexes:
            text = {**first, "index": index} if index < count else ended(first, count)
            value = tools.chunks.encode(text)
            sent.append(
                await work.send(CHUNKS.name, key=upload_id.encode(), value=value, partition=PARTITION)
            )
        value = tools.claims.encode(claim(first, next_chunk=count))
        key = f"content:{upload_id}"
        place = partition_of(key.encode(), CLAIMS.partitions)
        await work.send(CLAIMS.name, key=key.encode(), value=value, partition=place)
        await work.flush()
        return int((await sent[-1]).offset) + 1


def ended(first: dict[str, Any], count: int) -> dict[str, Any]:
    return {**first, "index": count, "terminal": True, "length": 0, "payload": b""}


async def test_an_upload_whose_chunks_expired_fails_and_the_next_one_goes_in(
    tools: LoaderDependencies,
) -> None:
    lost, half, good = str(ULID()), str(ULID()), str(ULID())
    await publish(tools, lost, range(3), count=2)
    start = await publish(tools, half, range(1), count=1)
    client = AIOKafkaAdminClient(bootstrap_servers=tools.settings.kafka.bootstrap_servers)
    await client.start()
    place = TopicPartition(CHUNKS.name, PARTITION)
    await client.delete_records({place: RecordsToDelete(before_offset=start)})
    await client.close()
    assert await log_start(tools.settings.kafka, CHUNKS.name, PARTITION) == start
    # The end of one upload that lost its beginning is still there.
    await publish(tools, half, range(1, 2), count=1)
    await publish(tools, good, range(2), count=1)
    stop = asyncio.Event()
    patient = replace(tools)
    async with asyncio.timeout(LIMIT_SECONDS):
        work = asyncio.create_task(PartitionLoader(PARTITION, tools=patient).run(stop))
        found = await statuses_of(tools, [lost, half, good])
        stop.set()
        await work
    assert (found[lost]["failure"], found[lost]["terminal"]) == ("CHUNKS_EXPIRED", True)
    assert (found[half]["failure"], found[half]["terminal"]) == ("CHUNKS_EXPIRED", True)
    assert found[good]["failure"] is None
