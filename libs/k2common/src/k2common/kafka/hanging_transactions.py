"""Ends what a transactional id left open in partitions although its coordinator says that it has ended.

A broker that was frozen and fenced by its controller skips markers of transactions that it has acknowledged.
The partition then keeps the transaction open: no committed reader passes it, Kafka never ends it, and a fence
does not, since to the coordinator there is nothing to end. The next transaction of the same id ends it as a
part of itself, whatever became of the first one: written again, its messages would be there twice.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnknownTopicOrPartitionError,
    for_code,
)

from k2common.errors import TransientError
from k2common.kafka.bounded_close import close_within
from k2common.kafka.txn_protocol import (
    DescribeProducersRequest,
    DescribeTransactionsRequest,
    WriteTxnMarkersRequest,
)
from k2common.observability.logging import get_logger
from k2common.settings.kafka import KafkaSettings

COMMITTED_STATES = ("PrepareCommit", "CompleteCommit")
ABORTED_STATES = ("PrepareAbort", "CompleteAbort")
NO_SUCH_ID = 105
UNKNOWN_ID = (NO_SUCH_ID, TransactionalIdAuthorizationFailed.errno)
SKIPPED_PARTITION = (0, UnknownTopicOrPartitionError.errno, TopicAuthorizationFailedError.errno)
"""One that can be asked, one that is just being deleted, one that the service may not read."""
RETRY_SECONDS = 0.02
log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastTransaction:
    """What the coordinator says of a transactional id before its next owner fences it."""

    state: str
    producer_id: int
    producer_epoch: int

    def outcome(self, *, producer_id: int, producer_epoch: int) -> bool | None:
        """Whether it was committed, as the owner with this id and epoch sees it; None when that is unknown.

        A fence raises the epoch by one, and by one more where it has to abort. Another step says that
        somebody else was there in between.
        """
        steps = producer_epoch - self.producer_epoch
        if producer_id != self.producer_id:
            return None
        if self.state in COMMITTED_STATES and steps == 1:
            return True
        aborted = (self.state in ABORTED_STATES and steps == 1) or (self.state == "Ongoing" and steps == 2)
        return False if aborted else None


@dataclass(frozen=True, slots=True, kw_only=True)
class HangingPartition:
    """A partition in which a producer's transaction is open, by its leader's node."""

    node: int
    topic: str
    partition: int
    producer_epoch: int
    coordinator_epoch: int


@asynccontextmanager
async def _client(settings: KafkaSettings) -> AsyncIterator[AIOKafkaClient]:
    client = AIOKafkaClient(
        bootstrap_servers=settings.bootstrap_servers,
        request_timeout_ms=int(settings.request_timeout_seconds * 1000),
        retry_backoff_ms=10,
    )
    try:
        await client.bootstrap()
        yield client
    finally:
        await close_within(client.close(), settings.request_timeout_seconds)


@asynccontextmanager
async def hanging_ended(
    settings: KafkaSettings, transactional_id: str, owner: AIOKafkaProducer
) -> AsyncIterator[None]:
    """End what hangs after the block, in which `owner` fences all earlier ones and begins nothing.

    Raises TransientError where it is not known whether a hanging transaction was committed, KafkaError.
    """
    async with _client(settings) as client:
        # Before the fence: after it the coordinator no longer says how the last transaction ended.
        last = await _last_transaction(client, transactional_id)
        yield
        if last is not None:
            fenced: Any = owner._txn_manager  # noqa: SLF001
            await _end_all(client, transactional_id, last, fenced.producer_id, fenced.producer_epoch)


async def _last_transaction(client: AIOKafkaClient, transactional_id: str) -> LastTransaction | None:
    """What the coordinator says of the id; None for one that it does not know, or does not tell us about."""
    while True:
        try:
            node = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
            answer = await client.send(node, DescribeTransactionsRequest([transactional_id]))
            code, _, state, _, _, producer_id, producer_epoch, *_ = answer.transaction_states[0]
            if code in UNKNOWN_ID:
                return None
            if code == 0:
                return LastTransaction(state=state, producer_id=producer_id, producer_epoch=producer_epoch)
            raise for_code(code)
        except KafkaError as error:
            # A coordinator that is being elected or loaded; the caller has a time limit.
            if not error.retriable:
                raise
            await asyncio.sleep(RETRY_SECONDS)


async def _end_all(
    client: AIOKafkaClient,
    transactional_id: str,
    last: LastTransaction,
    producer_id: int,
    producer_epoch: int,
) -> None:
    hanging = await _hanging(client, producer_id)
    if not hanging:
        return
    outcome = last.outcome(producer_id=producer_id, producer_epoch=producer_epoch)
    places = [f"{found.topic} {found.partition}" for found in hanging]
    if outcome is None:
        log.error("hanging transaction undecided", transactional_id=transactional_id, partitions=places)
        raise TransientError(f"{transactional_id} hangs in {places}, and it is not known how it ended")
    for found in hanging:
        await _end(client, found, producer_id=producer_id, producer_epoch=producer_epoch, commit=outcome)
    result = "commit" if outcome else "abort"
    log.error(
        "hanging transaction ended", transactional_id=transactional_id, partitions=places, outcome=result
    )


async def _hanging(client: AIOKafkaClient, producer_id: int) -> Sequence[HangingPartition]:
    found: list[HangingPartition] = []
    for node, topics in (await _leaders(client)).items():
        answer = await client.send(node, DescribeProducersRequest(sorted(topics.items())))
        for topic, partitions, _ in answer.topics:
            for partition, code, _, producers, _ in partitions:
                if code not in SKIPPED_PARTITION:
                    raise for_code(code)
                found += [
                    HangingPartition(
                        node=node,
                        topic=topic,
                        partition=partition,
                        producer_epoch=producer[1],
                        coordinator_epoch=producer[4],
                    )
                    for producer in producers or ()
                    if producer[0] == producer_id and producer[5] >= 0
                ]
    return found


async def _leaders(client: AIOKafkaClient) -> Mapping[int, Mapping[str, Sequence[int]]]:
    cluster = await client.fetch_all_metadata()
    leaders: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for topic in cluster.topics(exclude_internal_topics=True):
        for partition in cluster.partitions_for_topic(topic) or ():
            leader = cluster.leader_for_partition(TopicPartition(topic, partition))
            if leader is not None and leader >= 0:
                leaders[leader][topic].append(partition)
    return leaders


async def _end(
    client: AIOKafkaClient, found: HangingPartition, *, producer_id: int, producer_epoch: int, commit: bool
) -> None:
    request = WriteTxnMarkersRequest(
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        commit=commit,
        topic=found.topic,
        partition=found.partition,
        # No marker was written there yet: any coordinator may write the first one.
        coordinator_epoch=max(found.coordinator_epoch, 0),
    )
    answer = await client.send(found.node, request)
    (error,) = (code for _, topics, _ in answer.markers for _, parts, _ in topics for _, code, _ in parts)
    if error:
        raise KafkaError(f"no marker was written to {found.topic} {found.partition}: error {error}")
