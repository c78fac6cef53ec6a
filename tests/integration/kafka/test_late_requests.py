"""A request whose connection was reset may reach the broker in a later transaction: it must tear none."""

import asyncio
import inspect
import struct
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
from k2common.errors import TransientError
from k2common.kafka.consumer import MessageReader
from k2common.kafka.end_txn import PRIVATE
from k2common.kafka.positions import all_records
from k2common.kafka.producer import TransactionalProducer
from k2common.kafka.topics import TopicAdmin
from k2common.schemas.datasets import Topic
from k2common.settings.kafka import KafkaSettings
from k2common.testing.kafka_proxy import ApiKey, Fault, KafkaProxy
from k2local.stack import LocalStack


@pytest.fixture
def settings(stack: LocalStack) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=stack.settings.bootstrap_servers, request_timeout_seconds=5)


@pytest.fixture
def proxied(settings: KafkaSettings, proxy: KafkaProxy) -> KafkaSettings:
    return settings.model_copy(update={"bootstrap_servers": proxy.bootstrap_servers})


@pytest.fixture
async def topics(settings: KafkaSettings) -> tuple[str, str]:
    made = [Topic(name=f"test.{uuid4().hex}.v1", schema="positions", partitions=1) for _ in range(2)]
    await TopicAdmin(settings).ensure(made)
    return made[0].name, made[1].name


async def values(settings: KafkaSettings, topic: str) -> list[bytes | None]:
    return [record.value for record in await all_records(settings, topic, 0)]


async def visible(settings: KafkaSettings, topic: str) -> list[bytes | None]:
    """The values below the last stable offset, also while a transaction is open."""
    place = (topic, 0)
    seen: list[bytes | None] = []
    async with MessageReader(settings, {place: None}) as reader:
        end = (await reader.ends())[place]
        while (await reader.positions())[place] < end:
            fetched = await reader.fetch(limit=10, wait_seconds=0.1)
            seen += [record.value for record in fetched.get(place, ())]
    return seen


class Writer:
    """Writes row n and position n together; after a failure it fences, reads the position and goes on."""

    def __init__(self, settings: KafkaSettings, proxied: KafkaSettings, topics: tuple[str, str]) -> None:
        self.rows, self.positions = topics
        self._settings = settings
        self._proxied = proxied
        self.failures: list[TransientError] = []

    async def write(self, count: int, half_way: Callable[[int], Awaitable[None]]) -> None:
        """Write `count` rows; `half_way` is awaited when the broker has a row without its position."""
        while True:
            try:
                await self._write(count, half_way)
            except TransientError as error:
                self.failures.append(error)
            else:
                return

    async def _write(self, count: int, half_way: Callable[[int], Awaitable[None]]) -> None:
        async with TransactionalProducer(self._proxied, f"owner-{self.rows}") as producer:
            for number in range(len(await values(self._settings, self.positions)), count):
                async with producer.transaction() as work:
                    await work.send(self.rows, value=b"%d" % number, partition=0)
                    await work.flush()
                    await half_way(number)
                    await work.send(self.positions, value=b"%d" % number, partition=0)


@pytest.mark.parametrize(
    "api_key",
    [ApiKey.END_TXN, ApiKey.ADD_PARTITIONS_TO_TXN, ApiKey.PRODUCE, ApiKey.INIT_PRODUCER_ID],
    ids=lambda api_key: api_key.name,
)
async def test_a_request_that_arrives_late_tears_no_transaction(
    api_key: ApiKey,
    settings: KafkaSettings,
    proxied: KafkaSettings,
    topics: tuple[str, str],
    proxy: KafkaProxy,
) -> None:
    late = proxy.intercept(api_key, Fault.LATE)
    writer = Writer(settings, proxied, topics)
    delivered: list[bytes] = []
    seen_half_way: list[list[bytes | None]] = []

    async def deliver(number: int) -> None:
        if number == 1:
            delivered.extend(await late.deliver())
            seen_half_way.append(await visible(settings, writer.rows))

    async with asyncio.timeout(60):
        await writer.write(3, deliver)
    assert late.happened.is_set()
    assert len(delivered) == 1
    assert seen_half_way
    assert all(seen == [b"0"] for seen in seen_half_way), "rows of an open transaction are visible"
    assert await values(settings, writer.rows) == [b"0", b"1", b"2"]
    assert await values(settings, writer.positions) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("fault", [Fault.LATE, Fault.ANSWER_LOST], ids=lambda fault: fault.name)
async def test_a_commit_without_an_answer_fails_the_producer_and_is_not_repeated(
    fault: Fault,
    settings: KafkaSettings,
    proxied: KafkaSettings,
    topics: tuple[str, str],
    proxy: KafkaProxy,
) -> None:
    proxy.intercept(ApiKey.END_TXN, fault)
    async with TransactionalProducer(proxied, f"owner-{topics[0]}") as producer:
        with pytest.raises(TransientError, match="EndTxn"):
            async with producer.transaction() as work:
                await work.send(topics[0], value=b"1", partition=0)
        assert proxy.counts[ApiKey.END_TXN] == 1
        with pytest.raises(TransientError):
            async with producer.transaction() as work:
                await work.send(topics[0], value=b"2", partition=0)
    assert proxy.counts[ApiKey.END_TXN] == 1
    async with TransactionalProducer(settings, f"owner-{topics[0]}"):
        expected = [b"1"] if fault is Fault.ANSWER_LOST else []
        assert await values(settings, topics[0]) == expected


async def test_a_commit_that_the_broker_refuses_fails_the_producer(
    proxied: KafkaSettings, topics: tuple[str, str], proxy: KafkaProxy
) -> None:
    coordinator_is_loading = struct.pack(">ih", 0, 14)
    proxy.intercept(ApiKey.END_TXN, Fault.ANSWERED, answer=coordinator_is_loading)
    async with TransactionalProducer(proxied, f"owner-{topics[0]}") as producer:
        with pytest.raises(TransientError, match="EndTxn"):
            async with producer.transaction() as work:
                await work.send(topics[0], value=b"1", partition=0)
    assert proxy.counts[ApiKey.END_TXN] == 1


@pytest.mark.parametrize(("owner", "method", "name"), PRIVATE)
def test_aiokafka_still_has_the_private_names(owner: type, method: str, name: str) -> None:
    assert name in inspect.getsource(getattr(owner, method))
