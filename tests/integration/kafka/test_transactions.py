"""A transaction is visible whole or not at all, and a fenced owner writes nothing."""

from uuid import uuid4

import pytest
from k2common.errors import Fenced, SetupError, TransientError
from k2common.kafka.positions import all_records, last_record
from k2common.kafka.producer import TransactionalProducer
from k2common.kafka.topics import TopicAdmin
from k2common.schemas.datasets import POSITIONS, Topic
from k2common.settings.kafka import KafkaSettings
from k2local.stack import LocalStack


@pytest.fixture
def settings(stack: LocalStack) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=stack.settings.bootstrap_servers)


@pytest.fixture
async def topic(settings: KafkaSettings) -> str:
    made = Topic(
        name=f"test.{uuid4().hex}.v1",
        schema="positions",
        partitions=1,
        cleanup="compact",
        config=POSITIONS.config,
    )
    await TopicAdmin(settings).ensure([made])
    return made.name


def producer(settings: KafkaSettings, topic: str) -> TransactionalProducer:
    return TransactionalProducer(settings, f"owner-{topic}")


async def abandon(settings: KafkaSettings, topic: str, *, messages: int) -> None:
    async def fail() -> None:
        async with producer(settings, topic) as owner, owner.transaction() as work:
            for _ in range(messages):
                await work.send(topic, key=b"k", value=b"aborted")
            await work.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def values(settings: KafkaSettings, topic: str) -> list[bytes | None]:
    return [record.value for record in await all_records(settings, topic, 0)]


async def test_a_commit_shows_all_and_gives_the_offsets(settings: KafkaSettings, topic: str) -> None:
    async with producer(settings, topic) as owner, owner.transaction() as work:
        sent = [await work.send(topic, key=b"k", value=value) for value in (b"1", b"2")]
        await work.flush()
        offsets = [future.result().offset for future in sent]
    assert offsets == [0, 1]
    assert await values(settings, topic) == [b"1", b"2"]
    assert (await last_record(settings, topic, 0)).value == b"2"


async def test_a_failed_unit_of_work_is_never_seen(settings: KafkaSettings, topic: str) -> None:
    await abandon(settings, topic, messages=1)
    async with producer(settings, topic) as owner, owner.transaction() as work:
        await work.send(topic, key=b"k", value=b"kept")
    assert await values(settings, topic) == [b"kept"]


async def test_a_fenced_owner_writes_nothing(settings: KafkaSettings, topic: str) -> None:
    async def take_over() -> None:
        async with producer(settings, topic) as owner:
            # The fence has ended the zombie's transaction: the end can be read at once.
            assert await values(settings, topic) == []
            async with owner.transaction() as work:
                await work.send(topic, key=b"k", value=b"owner")

    async def be_a_zombie() -> None:
        async with producer(settings, topic) as zombie, zombie.transaction() as work:
            await work.send(topic, key=b"k", value=b"zombie")
            await work.flush()
            await take_over()

    with pytest.raises(Fenced):
        await be_a_zombie()
    assert await values(settings, topic) == [b"owner"]


async def test_the_last_record_is_found_behind_many_aborted_ones(settings: KafkaSettings, topic: str) -> None:
    async with producer(settings, topic) as owner, owner.transaction() as work:
        await work.send(topic, key=b"k", value=b"position")
    for _ in range(3):
        await abandon(settings, topic, messages=100)
    async with producer(settings, topic):
        assert (await last_record(settings, topic, 0)).value == b"position"


async def test_an_empty_partition_is_no_position(settings: KafkaSettings, topic: str) -> None:
    with pytest.raises(SetupError, match="was not provisioned"):
        await last_record(settings, topic, 0)


async def test_an_open_transaction_is_waited_for_and_then_transient(
    settings: KafkaSettings, topic: str
) -> None:
    hasty = settings.model_copy(update={"request_timeout_seconds": 1.0})
    async with producer(settings, topic) as owner, owner.transaction() as work:
        await work.send(topic, key=b"k", value=b"open")
        await work.flush()
        with pytest.raises(TransientError, match="could not be read"):
            await last_record(hasty, topic, 0)


async def test_a_broker_that_is_away_is_transient() -> None:
    away = KafkaSettings(bootstrap_servers="127.0.0.1:1", request_timeout_seconds=1)
    with pytest.raises(TransientError):
        await TransactionalProducer(away, "nobody").__aenter__()
