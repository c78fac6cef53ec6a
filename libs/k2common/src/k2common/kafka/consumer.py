"""Readers of assigned partitions, whole batches or single messages, and membership of a group.

A reader has no group: its owner says where it starts, and only its owner knows how far the work is done. A
group consumer is used for nothing but to learn which partitions are ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from k2common.columnar.record_batch import FetchedBatch
from k2common.errors import SetupError, TransientError
from k2common.kafka.bounded_close import close_within
from k2common.kafka.raw import read_whole_batches
from k2common.settings.kafka import KafkaSettings

Place: TypeAlias = tuple[str, int]
"""A topic and one of its partitions."""

Item = TypeVar("Item", bound="ConsumerRecord | FetchedBatch")
NEVER_MS = 2**31 - 1
END_POLL_SECONDS = 0.2


class _Reader(AbstractAsyncContextManager[Any], Generic[Item]):
    """Committed data of `starts` from the offsets that stand there; None is the beginning of the log."""

    whole_batches: bool

    def __init__(
        self, settings: KafkaSettings, starts: Mapping[Place, int | None], *, lost_is_beginning: bool = False
    ) -> None:
        self._settings = settings
        self._lost_is_beginning = lost_is_beginning
        self._starts = starts
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap_servers,
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset="none",
            enable_auto_commit=False,
            request_timeout_ms=int(settings.request_timeout_seconds * 1000),
            max_partition_fetch_bytes=settings.max_request_bytes,
            retry_backoff_ms=10,
            fetch_max_wait_ms=settings.fetch_wait_milliseconds,
        )

    async def __aenter__(self) -> Self:
        """Raises SetupError when the log lacks an offset, TransientError when Kafka is unavailable."""
        try:
            async with self._guarded():
                await self._consumer.start()
                if self.whole_batches:
                    read_whole_batches(self._consumer)
                places = [TopicPartition(*place) for place in self._starts]
                begins = await self._consumer.beginning_offsets(places)
                await self._check_ends(places)
                self._consumer.assign(places)
                for place in places:
                    self._seek(place, self._starts[(place.topic, place.partition)], begins[place])
        # Also when cancelled: nobody else holds the consumer that was begun.
        except BaseException:
            await self._stop()
            raise
        return self

    async def _check_ends(self, places: Sequence[TopicPartition]) -> None:
        """Raise SetupError for a start beyond its log's end that stays so.

        A broker that has just started may know an older end for a moment.
        """
        deadline = asyncio.get_running_loop().time() + self._settings.request_timeout_seconds
        while True:
            ends = await self._consumer.end_offsets(places)
            starts = {place: self._starts[(place.topic, place.partition)] or 0 for place in places}
            beyond = next((place for place in places if starts[place] > ends[place]), None)
            if beyond is None:
                return
            if asyncio.get_running_loop().time() >= deadline:
                raise SetupError(
                    f"{beyond.topic} {beyond.partition}: offset {starts[beyond]} was read once; the log now "
                    f"ends at {ends[beyond]}: it was cut or re-created"
                )
            await asyncio.sleep(END_POLL_SECONDS)

    def _seek(self, place: TopicPartition, start: int | None, begin: int) -> None:
        if start is not None and start < begin and not self._lost_is_beginning:
            raise SetupError(
                f"{place.topic} {place.partition}: offset {start} is gone; the log starts at {begin}"
            )
        self._consumer.seek(place, max(begin, start or 0))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        await close_within(self._consumer.stop(), self._settings.request_timeout_seconds)

    async def fetch(self, *, limit: int, wait_seconds: float) -> Mapping[Place, Sequence[Item]]:
        """Up to `limit` items that came within the time, by place and in order; empty when none came.

        Raises SetupError when the log no longer holds the position, TransientError when Kafka is unavailable.
        """
        async with self._guarded():
            fetched = await self._consumer.getmany(timeout_ms=int(wait_seconds * 1000), max_records=limit)
        return {(place.topic, place.partition): items for place, items in fetched.items()}

    async def positions(self) -> Mapping[Place, int]:
        """The next offset of each place; control records count."""
        async with self._guarded():
            return {
                (place.topic, place.partition): await self._consumer.position(place)
                for place in self._consumer.assignment()
            }

    def known_end(self, place: Place) -> int:
        """The offset after the last record of the place, as the newest fetch told; nobody is asked."""
        return self._consumer.highwater(TopicPartition(*place)) or 0

    async def ends(self) -> Mapping[Place, int]:
        """The offset after the last committed record of each place, now."""
        async with self._guarded():
            ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
        return {(place.topic, place.partition): end for place, end in ends.items()}

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        try:
            yield
        except OffsetOutOfRangeError as error:
            raise SetupError(f"the log no longer holds {error}") from error
        except KafkaError as error:
            raise TransientError(
                f"Kafka at {self._settings.bootstrap_servers}: {type(error).__name__} {error}"
            ) from error


class BatchReader(_Reader[FetchedBatch]):
    """Reads whole record batches; `limit` counts batches."""

    whole_batches = True


class MessageReader(_Reader[ConsumerRecord]):
    """Reads single messages, for topics with few of them."""

    whole_batches = False


class Membership(AbstractAsyncContextManager["Membership"]):
    """This replica's share of the partitions of `topics` among all members of `group`.

    `changed` is awaited with the share whenever it changes: first with none while partitions are being moved,
    so that work on them has ended when another member is given them.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        group: str,
        topics: Sequence[str],
        changed: Callable[[Set[Place]], Awaitable[None]],
    ) -> None:
        self._topics = topics
        self._settings = settings
        self._listener = _Listener(changed)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap_servers,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(settings.session_timeout_seconds * 1000),
            heartbeat_interval_ms=int(settings.session_timeout_seconds * 1000 / 5),
            # Nothing is polled here; the heartbeat alone says that this member lives.
            max_poll_interval_ms=NEVER_MS,
            rebalance_timeout_ms=int(settings.request_timeout_seconds * 1000),
            # A member that shared out by what a fenced broker said has given nobody anything, and nothing is
            # fetched that could fail: only its next look at the topics assigns them again.
            metadata_max_age_ms=int(settings.session_timeout_seconds * 1000),
        )
        self._listener.consumer = self._consumer

    async def __aenter__(self) -> Self:
        """Raises TransientError when Kafka is unavailable."""
        try:
            await self._consumer.start()
        except KafkaError as error:
            await self._stop()
            raise TransientError(f"Kafka at {self._settings.bootstrap_servers}: {error}") from error
        # Not before the start, which would wait for the first share and so for our caller to take it.
        self._consumer.subscribe(list(self._topics), listener=self._listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        await close_within(self._consumer.stop(), self._settings.request_timeout_seconds)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    consumer: AIOKafkaConsumer

    def __init__(self, changed: Callable[[Set[Place]], Awaitable[None]]) -> None:
        self._changed = changed

    async def on_partitions_revoked(self, revoked: Set[TopicPartition]) -> None:
        await self._changed(frozenset())

    async def on_partitions_assigned(self, assigned: Set[TopicPartition]) -> None:
        self.consumer.pause(*assigned)
        await self._changed(frozenset((place.topic, place.partition) for place in assigned))
