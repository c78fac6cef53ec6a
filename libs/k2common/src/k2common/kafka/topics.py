"""Topics are created once, with the settings of the one table, never by accident."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from k2common.errors import SetupError, TransientError
from k2common.kafka.bounded_close import close_within
from k2common.schemas.datasets import Topic
from k2common.settings.kafka import KafkaSettings

# Error codes of the Kafka protocol guide.
NONE = 0
TOPIC_ALREADY_EXISTS = 36

LISTING_POLL_SECONDS = 0.02


def topic_config(topic: Topic) -> Mapping[str, str]:
    """The broker's names and values for the settings of `topic`; retention -1 is for ever."""
    retention = -1 if topic.retention_ms is None else topic.retention_ms
    return {"cleanup.policy": topic.cleanup, "retention.ms": str(retention), **topic.config}


class TopicAdmin:
    """Creates topics and says what the cluster has."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    async def ensure(self, topics: Sequence[Topic]) -> Sequence[str]:
        """Create the topics that are missing and return their names; existing ones stay as they are.

        Raises SetupError when an existing topic has another number of partitions, since keys would move,
        or when the cluster refuses a topic; TransientError when the cluster is unavailable.
        """
        async with self._client() as client:
            present = await self._partitions(client)
            missing = [topic for topic in topics if topic.name not in present]
            if missing:
                await self._create(client, missing)
                present = await self._listed(client, {topic.name for topic in missing})
        for topic in topics:
            found = present[topic.name]
            if found != topic.partitions:
                raise SetupError(f"{topic.name} has {found} partitions; {topic.partitions} are needed")
        return [topic.name for topic in missing]

    async def partitions(self) -> Mapping[str, int]:
        """Number of partitions of every topic of the cluster.

        Raises TransientError when the cluster is unavailable.
        """
        async with self._client() as client:
            return await self._partitions(client)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[AIOKafkaAdminClient]:
        client = AIOKafkaAdminClient(
            bootstrap_servers=self._settings.bootstrap_servers,
            request_timeout_ms=int(self._settings.request_timeout_seconds * 1000),
        )
        try:
            await client.start()
            yield client
        except KafkaError as error:
            raise TransientError(f"Kafka at {self._settings.bootstrap_servers}: {error}") from error
        finally:
            await close_within(client.close(), self._settings.request_timeout_seconds)

    @staticmethod
    async def _partitions(client: AIOKafkaAdminClient) -> Mapping[str, int]:
        return {entry["topic"]: len(entry["partitions"]) for entry in await client.describe_topics()}

    async def _listed(self, client: AIOKafkaAdminClient, names: Set[str]) -> Mapping[str, int]:
        # A new topic is made by the controller; the broker that answers learns of it a little later.
        try:
            async with asyncio.timeout(self._settings.request_timeout_seconds):
                # The cluster announces nothing that could be awaited.
                while not names <= (present := await self._partitions(client)).keys():  # noqa: ASYNC110
                    await asyncio.sleep(LISTING_POLL_SECONDS)
        except TimeoutError as error:
            raise TransientError(f"{sorted(names)} were created but are not listed yet") from error
        return present

    async def _create(self, client: AIOKafkaAdminClient, topics: Sequence[Topic]) -> None:
        response = await client.create_topics(
            [
                NewTopic(
                    topic.name,
                    topic.partitions,
                    self._settings.replication_factor,
                    topic_configs=dict(topic_config(topic)),
                )
                for topic in topics
            ]
        )
        for name, code, *message in response.topic_errors:
            if code not in (NONE, TOPIC_ALREADY_EXISTS):
                raise SetupError(f"{name} could not be created: error {code} {message}")
