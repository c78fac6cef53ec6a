"""An acknowledged commit that never happened, or not in every partition, is noticed by who reads it back."""

from uuid import uuid4

import pytest
from aiokafka import ConsumerRecord
from k2common.errors import RecordError, TransientError
from k2common.kafka.boundary import UndecodableMessages
from k2common.kafka.committed_reads import HighWatermarks
from k2common.kafka.positions import all_records
from k2common.kafka.producer import TransactionalProducer
from k2common.kafka.topics import TopicAdmin
from k2common.schemas.datasets import Topic, dead_letter_topic_name
from k2common.settings.kafka import KafkaSettings
from k2common.testing.kafka_proxy import END_TXN_ACCEPTED, ApiKey, Fault, KafkaProxy


@pytest.fixture
def settings(proxy: KafkaProxy) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=proxy.bootstrap_servers, request_timeout_seconds=5)


@pytest.fixture
async def topics(settings: KafkaSettings) -> tuple[str, str]:
    name = f"test.{uuid4().hex}.v1"
    made = [Topic(name=one, schema="positions", partitions=1) for one in (name, dead_letter_topic_name(name))]
    await TopicAdmin(settings).ensure(made)
    return made[0].name, made[1].name


async def values(settings: KafkaSettings, topic: str) -> list[bytes | None]:
    return [record.value for record in await all_records(settings, topic, 0)]


async def write(settings: KafkaSettings, topics: tuple[str, str], *, read_back_seconds: float) -> None:
    async with (
        TransactionalProducer(settings, f"owner-{topics[0]}") as producer,
        producer.transaction(read_back_seconds=read_back_seconds) as work,
    ):
        for topic in topics:
            for value in (b"1", b"2"):
                await work.send(topic, key=b"k", value=value)


async def test_what_was_read_back_is_there_in_every_partition(
    settings: KafkaSettings, topics: tuple[str, str]
) -> None:
    await write(settings, topics, read_back_seconds=5)
    assert [await values(settings, topic) for topic in topics] == [[b"1", b"2"]] * 2


async def test_a_commit_that_never_happened_fails(
    settings: KafkaSettings, topics: tuple[str, str], proxy: KafkaProxy
) -> None:
    proxy.intercept(ApiKey.END_TXN, Fault.ANSWERED, answer=END_TXN_ACCEPTED)
    with pytest.raises(TransientError, match="cannot be read"):
        await write(settings, topics, read_back_seconds=0.5)
    # The next owner ends what is open; its own work is there.
    await write(settings, topics, read_back_seconds=5)
    assert [await values(settings, topic) for topic in topics] == [[b"1", b"2"]] * 2


async def test_a_message_is_passed_only_after_its_dead_letter_can_be_read(
    settings: KafkaSettings, topics: tuple[str, str], proxy: KafkaProxy
) -> None:
    topic, letters = topics
    kept = UndecodableMessages(
        settings.model_copy(update={"request_timeout_seconds": 1.0}),
        owner=f"undecodable-{topic}",
        keeps={topic},
        count=lambda _: None,
    )
    async with (
        TransactionalProducer(settings, f"stranger-{topic}") as producer,
        producer.transaction() as work,
    ):
        await work.send(topic, key=b"k", value=b"no record")
    record: ConsumerRecord = (await all_records(settings, topic, 0))[0]
    kept.skip(record, RecordError("no record"))
    proxy.intercept(ApiKey.END_TXN, Fault.ANSWERED, answer=END_TXN_ACCEPTED)
    with pytest.raises(TransientError):
        await kept.keep()
    assert kept.first_pending(topic, 0) == record.offset
    await kept.keep()
    assert kept.first_pending(topic, 0) is None
    assert await values(settings, letters) == [b"no record"]


async def test_the_end_of_a_log_counts_open_transactions(
    settings: KafkaSettings, topics: tuple[str, str], proxy: KafkaProxy
) -> None:
    ends = HighWatermarks(settings)
    assert await ends.of(topics[0], 0) == 0
    await write(settings, topics, read_back_seconds=5)
    assert await ends.of(topics[0], 0) == 3
    proxy.reset_connections()
    assert await ends.of(topics[0], 0) == 3
    await ends.close()
