"""Topics come into being once, with the settings of the table."""

from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from k2common.errors import SetupError, TransientError
from k2common.kafka.topics import TopicAdmin, topic_config
from k2common.schemas.datasets import POSITIONS, TOPICS, TRADES
from k2common.settings.kafka import KafkaSettings
from k2local.stack import LocalStack


@pytest.fixture
def settings(stack: LocalStack) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=stack.settings.bootstrap_servers)


async def configured(servers: str, name: str) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    finally:
        await admin.close()
    ((*_, entries),) = answer.resources
    return {entry[0]: entry[1] for entry in entries}


async def test_all_topics_exist_after_the_first_call_and_the_second_changes_nothing(
    settings: KafkaSettings,
) -> None:
    admin = TopicAdmin(settings)
    await admin.ensure(TOPICS)
    assert await admin.ensure(TOPICS) == []
    assert {topic.name: topic.partitions for topic in TOPICS}.items() <= (await admin.partitions()).items()
    for topic in (POSITIONS, TRADES.topic):
        found = await configured(settings.bootstrap_servers, topic.name)
        assert topic_config(topic).items() <= found.items()


async def test_another_number_of_partitions_is_refused(settings: KafkaSettings) -> None:
    admin = TopicAdmin(settings)
    topic = replace(TRADES.topic, name="market.grown.v1")
    await admin.ensure([topic])
    with pytest.raises(SetupError, match=r"market\.grown\.v1 has 2 partitions; 3 are needed"):
        await admin.ensure([replace(topic, partitions=3)])


async def test_a_topic_that_the_cluster_refuses_is_named(settings: KafkaSettings) -> None:
    wrong = replace(TRADES.topic, name="market.wrong.v1", config={"max.message.bytes": "-5"})
    with pytest.raises(SetupError, match=r"market\.wrong\.v1 could not be created"):
        await TopicAdmin(settings).ensure([wrong])


async def test_a_cluster_that_is_away_is_transient() -> None:
    away = KafkaSettings(bootstrap_servers="127.0.0.1:1", request_timeout_seconds=1)
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:1"):
        await TopicAdmin(away).partitions()
