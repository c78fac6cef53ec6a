"""A member of a group gets its partitions also where the topics were not to be seen when it joined."""

import asyncio
from collections.abc import Set
from uuid import uuid4

from k2common.kafka.consumer import Membership, Place
from k2common.kafka.topics import TopicAdmin
from k2common.schemas.datasets import Topic
from k2common.settings.kafka import KafkaSettings
from k2local.stack import LocalStack

LIMIT_SECONDS = 60
"""Far less than aiokafka's five minutes until metadata is read again."""


async def test_partitions_that_appear_after_the_first_share_are_shared_out(stack: LocalStack) -> None:
    settings = KafkaSettings(bootstrap_servers=stack.settings.bootstrap_servers, session_timeout_seconds=6)
    topic = Topic(name=f"test.{uuid4().hex}.v1", schema="claims", partitions=2)
    shares: asyncio.Queue[Set[Place]] = asyncio.Queue()

    async def changed(places: Set[Place]) -> None:
        shares.put_nowait(places)

    async with asyncio.timeout(LIMIT_SECONDS):
        async with Membership(settings, group=uuid4().hex, topics=[topic.name], changed=changed):
            # None while they are moved, and none that there are.
            assert [await shares.get(), await shares.get()] == [frozenset(), frozenset()]
            await TopicAdmin(settings).ensure([topic])
            while not (share := await shares.get()):
                continue
    assert share == {(topic.name, 0), (topic.name, 1)}
