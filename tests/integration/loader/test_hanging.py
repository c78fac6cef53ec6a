"""Rows whose marker was skipped, beside a committed position, are seen once the partition has an owner."""

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from csv_loader.partition import LoaderDependencies, PartitionLoader
from k2common.kafka.committed_reads import HighWatermarks
from k2common.kafka.consumer import MessageReader
from k2common.kafka.producer import TransactionalProducer
from k2common.schemas.datasets import CHUNKS, TRADES
from k2common.testing.kafka_proxy import ApiKey, Fault, KafkaProxy, ProxiedRequest
from ulid import ULID

from tests.integration.kafka.test_hanging import VERIFICATION, added, configure
from tests.integration.loader.chunks import chunk, statuses_of

PARTITION = 2
LIMIT_SECONDS = 60
ROWS = TRADES.topic


@pytest.fixture
async def proxied(
    proxy: KafkaProxy, tools: LoaderDependencies
) -> AsyncIterator[tuple[LoaderDependencies, KafkaProxy]]:
    """The tools of a loader behind a proxy, on a broker that takes rows of unknown transactions."""
    await configure(tools.settings.kafka, {VERIFICATION: "false"})
    kafka = tools.settings.kafka.model_copy(update={"bootstrap_servers": proxy.bootstrap_servers})
    yield replace(tools, settings=tools.settings.model_copy(update={"kafka": kafka})), proxy
    await configure(tools.settings.kafka, {})


async def publish(tools: LoaderDependencies, upload_id: str) -> None:
    async with (
        TransactionalProducer(tools.settings.kafka, "test-chunks") as producer,
        producer.transaction() as work,
    ):
        value = tools.chunks.encode(chunk(upload_id, "trades"))
        await work.send(CHUNKS.name, key=upload_id.encode(), value=value, partition=PARTITION)


async def load(tools: LoaderDependencies, upload_id: str) -> None:
    """Run a loader until the upload's status can be read."""
    stop = asyncio.Event()
    work = asyncio.create_task(PartitionLoader(PARTITION, tools=tools).run(stop))
    await statuses_of(tools, [upload_id])
    stop.set()
    await work


async def unread(tools: LoaderDependencies) -> int:
    """So many offsets of the rows' topic no committed read can reach."""
    places = {(ROWS.name, partition): None for partition in range(ROWS.partitions)}
    async with MessageReader(tools.settings.kafka, places) as reader:
        stable = await reader.ends()
    ends = HighWatermarks(tools.settings.kafka)
    found = sum([await ends.of(*place) - end for place, end in stable.items()])
    await ends.close()
    return found


async def test_rows_that_hang_behind_their_position_are_committed_by_the_next_owner(
    tools: LoaderDependencies, proxied: tuple[LoaderDependencies, KafkaProxy]
) -> None:
    behind_proxy, proxy = proxied
    lost, following = str(ULID()), str(ULID())
    await publish(tools, lost)

    def of_rows(request: ProxiedRequest) -> bool:
        skipped.answer = added(ROWS.name, *struct.unpack(">i", request.frame[-4:]))
        return ROWS.name.encode() in request.frame

    skipped = proxy.intercept(ApiKey.ADD_PARTITIONS_TO_TXN, Fault.ANSWERED, matches=of_rows)
    async with asyncio.timeout(LIMIT_SECONDS):
        await load(behind_proxy, lost)
        assert skipped.happened.is_set()
        assert await unread(tools) == 1
        # Another owner, which has no reason to write to that partition of the rows.
        async with TransactionalProducer(tools.settings.kafka, f"csv-loader-{CHUNKS.name}-{PARTITION}"):
            assert await unread(tools) == 0
        await publish(tools, following)
        await load(tools, following)
        found = await statuses_of(tools, [lost, following])
    places = {(output["topic"], output["partition"]) for one in found.values() for output in one["outputs"]}
    async with MessageReader(tools.settings.kafka, dict.fromkeys(places)) as reader:
        seen = set()
        ends = await reader.ends()
        while any(at < ends[place] for place, at in (await reader.positions()).items()):
            for place, records in (await reader.fetch(limit=500, wait_seconds=0.2)).items():
                seen |= {(*place, record.offset) for record in records}
    for one in found.values():
        for output in one["outputs"]:
            assert (output["topic"], output["partition"], output["base_offset"]) in seen
