"""A chunk that ends its parser is tried twice, then parsed apart: its upload fails, the next one goes in."""

import asyncio

import pytest
from csv_loader.partition import PartitionLoader, Tools
from k2common.kafka.positions import last_record
from k2common.kafka.producer import TransactionalProducer
from k2common.schemas.datasets import CHUNKS, POSITIONS
from ulid import ULID

from tests.integration.loader.chunks import chunk, statuses_of

PARTITION = 1
LIMIT_SECONDS = 60


async def attempts(tools: Tools) -> int:
    record = await last_record(tools.settings.kafka, POSITIONS.name, PARTITION)
    return int((await tools.positions.decode(record.value))["attempts"])


async def test_two_attempts_and_then_apart(tools: Tools) -> None:
    bad, good = str(ULID()), str(ULID())
    async with (
        TransactionalProducer(tools.settings.kafka, "test-chunks") as producer,
        producer.transaction() as work,
    ):
        # No loader knows such a dataset: its parser ends with an error that nobody expects.
        for upload_id, dataset in ((bad, "nonsense"), (good, "trades")):
            value = tools.chunks.encode(chunk(upload_id, dataset))
            await work.send(CHUNKS.name, key=upload_id.encode(), value=value, partition=PARTITION)
    async with asyncio.timeout(LIMIT_SECONDS):
        for number in (1, 2):
            with pytest.raises(KeyError, match="nonsense"):
                await PartitionLoader(PARTITION, tools=tools).run(asyncio.Event())
            assert await attempts(tools) == number
        stop = asyncio.Event()
        work_apart = asyncio.create_task(PartitionLoader(PARTITION, tools=tools).run(stop))
        found = await statuses_of(tools, [bad, good])
        stop.set()
        await work_apart
    assert (found[bad]["failure"], found[bad]["rows_accepted"]) == ("CHUNK_UNPARSEABLE", 0)
    assert (found[good]["failure"], found[good]["rows_accepted"]) == (None, 1)
