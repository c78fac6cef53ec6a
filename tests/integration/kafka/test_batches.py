"""Whole batches go through the broker as any client's would, and only committed ones are read."""

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from k2common.columnar.arrow import arrow_schema
from k2common.columnar.decode import RecordDecoder
from k2common.columnar.encode import RecordEncoder
from k2common.columnar.record_batch import EncodedBatch, FetchedBatch, encode_batches, keys_of
from k2common.errors import SetupError, TransientError
from k2common.kafka.consumer import BatchReader, MessageReader
from k2common.kafka.producer import TransactionalProducer
from k2common.kafka.raw import PRIVATE
from k2common.kafka.topics import TopicAdmin
from k2common.schemas.datasets import Topic
from k2common.settings.kafka import KafkaSettings
from k2local.stack import LocalStack

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Row",
    "fields": [{"name": "symbol", "type": "string"}, {"name": "line", "type": "long"}],
}
SCHEMA_ID = 11
LIMIT_SECONDS = 30


@pytest.fixture
def settings(stack: LocalStack) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=stack.settings.bootstrap_servers)


@pytest.fixture
async def topic(settings: KafkaSettings) -> str:
    made = Topic(name=f"test.{uuid4().hex}.v1", schema="trades", partitions=1)
    await TopicAdmin(settings).ensure([made])
    return made.name


def batches(first: int, count: int) -> list[EncodedBatch]:
    rows = pa.RecordBatch.from_pylist([{"symbol": "A", "line": first + n} for n in range(count)])
    encoder = RecordEncoder(SCHEMA, SCHEMA_ID)
    keys = keys_of(rows, ("symbol",))
    return encode_batches(rows, encoder, keys=keys, partitions=1, timestamp_ms=1, max_bytes=1000)


async def send(
    settings: KafkaSettings, topic: str, encoded: Sequence[EncodedBatch], *, fail: bool
) -> list[int]:
    async def work() -> list[int]:
        async with TransactionalProducer(settings, topic) as producer, producer.transaction() as unit:
            sent = [await unit.send_batch(topic, batch) for batch in encoded]
            await unit.flush()
            if fail:
                raise ZeroDivisionError
            return [future.result().offset for future in sent]

    if not fail:
        return await work()
    with pytest.raises(ZeroDivisionError):
        await work()
    return []


async def read(settings: KafkaSettings, topic: str, start: int | None, *, end: int) -> list[FetchedBatch]:
    found: list[FetchedBatch] = []
    async with BatchReader(settings, {(topic, 0): start}) as reader, asyncio.timeout(LIMIT_SECONDS):
        # The broker makes a transaction readable a little after it has answered the commit.
        while (await reader.positions())[(topic, 0)] < end:
            fetched = await reader.fetch(limit=3, wait_seconds=0.2)
            found += fetched.get((topic, 0), [])
    return found


def lines(found: Sequence[FetchedBatch]) -> list[int]:
    decoded = RecordDecoder(arrow_schema(SCHEMA)).decode(found, {SCHEMA_ID: SCHEMA})
    assert not decoded.poison
    result: list[int] = decoded.rows["line"].to_pylist()
    return result


async def test_committed_batches_are_read_whole_and_aborted_ones_never(
    settings: KafkaSettings, topic: str
) -> None:
    first = await send(settings, topic, batches(0, 300), fail=False)
    assert len(first) > 2
    assert first[:2] == [0, batches(0, 300)[0].count]
    await send(settings, topic, batches(300, 300), fail=True)
    await send(settings, topic, batches(600, 300), fail=False)
    assert lines(await read(settings, topic, None, end=900)) == [*range(300), *range(600, 900)]


async def test_reading_from_the_middle_of_a_batch_gives_the_rows_from_there(
    settings: KafkaSettings, topic: str
) -> None:
    await send(settings, topic, batches(0, 300), fail=False)
    assert lines(await read(settings, topic, 117, end=300)) == list(range(117, 300))


async def test_any_client_reads_the_messages(settings: KafkaSettings, topic: str) -> None:
    await send(settings, topic, batches(0, 60), fail=False)
    seen = []
    async with MessageReader(settings, {(topic, 0): None}) as reader, asyncio.timeout(LIMIT_SECONDS):
        while len(seen) < 60:
            for messages in (await reader.fetch(limit=50, wait_seconds=0.2)).values():
                seen += [(message.offset, message.key, message.value) for message in messages]
    encoder = RecordEncoder(SCHEMA, SCHEMA_ID)
    rows = pa.RecordBatch.from_pylist([{"symbol": "A", "line": n} for n in range(60)])
    assert seen == [(n, b"A", value) for n, value in enumerate(encoder.messages(rows).to_pylist())]


async def test_an_offset_that_the_log_lost_stops_the_reader(settings: KafkaSettings, topic: str) -> None:
    with pytest.raises(SetupError, match="is gone"):
        async with BatchReader(settings, {(topic, 0): -5}):
            pass


async def test_a_broker_that_is_away_is_transient() -> None:
    away = KafkaSettings(bootstrap_servers="127.0.0.1:1", request_timeout_seconds=1)
    with pytest.raises(TransientError):
        async with BatchReader(away, {("topic", 0): 0}):
            pass


@pytest.mark.parametrize(("owner", "method", "name"), PRIVATE)
def test_aiokafka_still_has_the_private_names(owner: type, method: str, name: str) -> None:
    assert name in inspect.getsource(getattr(owner, method))
