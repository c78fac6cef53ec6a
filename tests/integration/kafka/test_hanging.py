"""A transaction that hangs in a partition, its marker skipped, is ended by the next owner as it was decided.

The coordinator is kept from knowing the partition: it decides on the rest and writes no marker there. A
broker that was frozen and fenced by its controller leaves the same behind.
"""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from k2common.errors import TransientError
from k2common.kafka.hanging_transactions import LastTransaction
from k2common.kafka.positions import all_records
from k2common.kafka.producer import TransactionalProducer
from k2common.kafka.topics import TopicAdmin
from k2common.schemas.datasets import Topic
from k2common.settings.kafka import KafkaSettings
from k2common.testing.kafka_proxy import ApiKey, Fault, KafkaProxy
from k2local.stack import LocalStack

VERIFICATION = "transaction.partition.verification.enable"
"""Without it a partition takes records of a transaction that the coordinator has not added it to."""


@pytest.fixture
async def settings(stack: LocalStack) -> AsyncIterator[KafkaSettings]:
    found = KafkaSettings(bootstrap_servers=stack.settings.bootstrap_servers, request_timeout_seconds=5)
    await configure(found, {VERIFICATION: "false"})
    yield found
    await configure(found, {})


async def configure(settings: KafkaSettings, values: dict[str, str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.BROKER, "1", configs=values)
        answers = await admin.alter_configs([resource])
        assert {error for answer in answers for error, *_ in answer.resources} == {0}
    finally:
        await admin.close()


@pytest.fixture
async def topics(settings: KafkaSettings) -> tuple[str, str]:
    made = [Topic(name=f"test.{uuid4().hex}.v1", schema="positions", partitions=1) for _ in range(2)]
    await TopicAdmin(settings).ensure(made)
    return made[0].name, made[1].name


def owner(settings: KafkaSettings, topics: tuple[str, str]) -> TransactionalProducer:
    return TransactionalProducer(settings, f"owner-{topics[0]}")


def added(topic: str, partition: int = 0) -> bytes:
    """The body of an answer to AddPartitionsToTxn: throttle time, one topic and partition, no error."""
    name = topic.encode()
    return struct.pack(f">iih{len(name)}siih", 0, 1, len(name), name, 1, partition, 0)


@asynccontextmanager
async def torn(settings: KafkaSettings, proxy: KafkaProxy, topics: tuple[str, str]) -> AsyncIterator[None]:
    """A transaction over both topics, of which the coordinator knows the first alone."""
    proxied = settings.model_copy(update={"bootstrap_servers": proxy.bootstrap_servers})
    known, hanging = topics
    async with owner(proxied, topics) as producer, producer.transaction() as work:
        await work.send(known, value=b"old", key=b"k", partition=0)
        await work.flush()
        proxy.intercept(ApiKey.ADD_PARTITIONS_TO_TXN, Fault.ANSWERED, answer=added(hanging))
        await work.send(hanging, value=b"old", key=b"k", partition=0)
        await work.flush()
        yield


async def values(settings: KafkaSettings, topic: str) -> list[bytes | None]:
    return [record.value for record in await all_records(settings, topic, 0)]


async def test_a_commit_whose_marker_is_missing_is_completed_by_the_next_owner(
    settings: KafkaSettings, proxy: KafkaProxy, topics: tuple[str, str]
) -> None:
    async with torn(settings, proxy, topics):
        pass
    assert await values(settings, topics[0]) == [b"old"]
    with pytest.raises(TransientError):
        await values(settings.model_copy(update={"request_timeout_seconds": 1}), topics[1])
    async with owner(settings, topics) as producer:
        # Whoever takes over reads what was decided, before it writes anything.
        assert await values(settings, topics[1]) == [b"old"]
        async with producer.transaction(read_back_seconds=5) as work:
            await work.send(topics[1], value=b"new", key=b"k", partition=0)
    assert await values(settings, topics[1]) == [b"old", b"new"]


async def test_an_abort_whose_marker_is_missing_is_completed_by_the_next_owner(
    settings: KafkaSettings, proxy: KafkaProxy, topics: tuple[str, str]
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with torn(settings, proxy, topics):
            raise ZeroDivisionError
    async with owner(settings, topics) as producer:
        assert [await values(settings, topic) for topic in topics] == [[], []]
        async with producer.transaction(read_back_seconds=5) as work:
            await work.send(topics[1], value=b"new", key=b"k", partition=0)
    # Without the marker this commit would have shown the aborted message too.
    assert await values(settings, topics[1]) == [b"new"]


async def test_a_transaction_is_read_back_in_each_of_its_partitions(
    settings: KafkaSettings, proxy: KafkaProxy, topics: tuple[str, str]
) -> None:
    proxied = settings.model_copy(update={"bootstrap_servers": proxy.bootstrap_servers})
    known, hanging = topics

    async def write() -> None:
        async with owner(proxied, topics) as producer, producer.transaction(read_back_seconds=0.5) as work:
            await work.send(known, value=b"1", key=b"k", partition=0)
            await work.flush()
            proxy.intercept(ApiKey.ADD_PARTITIONS_TO_TXN, Fault.ANSWERED, answer=added(hanging))
            await work.send(hanging, value=b"1", key=b"k", partition=0)

    with pytest.raises(TransientError, match=hanging):
        await write()
    async with owner(settings, topics):
        pass
    assert [await values(settings, topic) for topic in topics] == [[b"1"], [b"1"]]


async def test_a_transaction_that_waited_for_long_is_read_back_whoever_wrote_it(
    settings: KafkaSettings, proxy: KafkaProxy, topics: tuple[str, str]
) -> None:
    proxied = settings.model_copy(
        update={"bootstrap_servers": proxy.bootstrap_servers, "request_timeout_seconds": 1}
    )
    known, hanging = topics
    suspicious = TransactionalProducer(proxied, f"owner-{known}", suspect_seconds=0)

    async def write() -> None:
        async with suspicious as producer, producer.transaction() as work:
            await work.send(known, value=b"1", key=b"k", partition=0)
            await work.flush()
            proxy.intercept(ApiKey.ADD_PARTITIONS_TO_TXN, Fault.ANSWERED, answer=added(hanging))
            await work.send(hanging, value=b"1", key=b"k", partition=0)

    with pytest.raises(TransientError, match=hanging):
        await write()


@pytest.mark.parametrize(
    ("state", "steps", "outcome"),
    [
        ("CompleteCommit", 1, True),
        ("PrepareCommit", 1, True),
        ("CompleteAbort", 1, False),
        ("Ongoing", 2, False),
        # Between the question and the fence somebody else ended it, or fenced too.
        ("Ongoing", 1, None),
        ("CompleteCommit", 2, None),
        ("Empty", 1, None),
    ],
)
def test_an_outcome_is_known_only_where_nobody_came_in_between(
    state: str, steps: int, outcome: bool | None
) -> None:
    last = LastTransaction(state=state, producer_id=1, producer_epoch=3)
    assert last.outcome(producer_id=1, producer_epoch=3 + steps) is outcome
    assert last.outcome(producer_id=2, producer_epoch=0) is None
