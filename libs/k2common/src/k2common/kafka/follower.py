"""Follows whole topics: every committed record of every partition, from the start or from given offsets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiokafka import ConsumerRecord

from k2common.errors import RecordError, TransientError
from k2common.kafka.boundary import UndecodableMessages, decode_boundary
from k2common.kafka.consumer import MessageReader, Place
from k2common.kafka.positions import high_watermarks
from k2common.schemas.datasets import Topic
from k2common.settings.kafka import KafkaSettings

BATCH = 500
WAIT_SECONDS = 0.5
POLL_SECONDS = 0.02


class Follower:
    """Hands each record of `topic`, and of `more`, to `on_record`, in order per partition.

    A message about which `on_record` raises is passed, as `undecodable` says: see `decode_boundary`.
    `starts` are of `topic` alone. `caught_up` is set once the committed records below the high watermarks
    that the topics had when `run` began have been handed over, also those of transactions that were open
    then. After a TransientError `run` may be called again: it goes on where it was. A start that the log no
    longer holds counts as its beginning.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: Topic,
        *,
        on_record: Callable[[ConsumerRecord], Awaitable[None]],
        starts: Mapping[int, int] | None = None,
        more: Sequence[Topic] = (),
        undecodable: UndecodableMessages | None = None,
    ) -> None:
        """Without `undecodable` such messages are logged alone."""
        self.caught_up = asyncio.Event()
        self._undecodable = undecodable or UndecodableMessages(settings, owner="", count=lambda _: None)
        self._settings = settings
        self._topic = topic
        self._on_record = on_record
        self.is_cut = False
        """Whether the log no longer held its beginning when `run` first began."""
        self._positions: dict[Place, int | None] = {
            (followed.name, partition): None
            for followed in (topic, *more)
            for partition in range(followed.partitions)
        } | {(topic.name, partition): at for partition, at in (starts or {}).items()}

    @property
    def positions(self) -> Mapping[int, int]:
        """The next offset per partition of `topic`; one whose start is not known yet is left out.

        It is the first offset whose dead letter is not written yet, if there is one.
        """
        return {
            partition: at if (kept := self._undecodable.first_pending(name, partition)) is None else kept
            for (name, partition), at in self._positions.items()
            if name == self._topic.name and at is not None
        }

    def position(self, topic: str, partition: int) -> int:
        """The next offset of a partition; 0 as long as its start is not known."""
        return self._positions.get((topic, partition)) or 0

    async def until_caught_up(self, stop: asyncio.Event) -> bool:
        """Wait until `caught_up` or `stop` is set; whether the former is."""
        waits = {asyncio.create_task(event.wait()) for event in (self.caught_up, stop)}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return self.caught_up.is_set()

    async def reach_ends(self) -> None:
        """Return when all that the topics hold now has been handed over.

        Raises TransientError when Kafka is unavailable or that takes longer than a request may.
        """
        async with MessageReader(self._settings, dict.fromkeys(self._positions)) as reader:
            ends = await reader.ends()
        try:
            async with asyncio.timeout(self._settings.request_timeout_seconds):
                # The position moves at the end of each fetch; nothing announces it.
                while any((self._positions[place] or 0) < end for place, end in ends.items()):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError as error:
            raise TransientError(f"{self._topic.name} is not read to its end yet") from error

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until `stop`.

        Raises TransientError when Kafka is unavailable.
        """
        async with MessageReader(self._settings, dict(self._positions), lost_is_beginning=True) as reader:
            # Not the last stable offsets: behind an open transaction lie records that are committed.
            ends = await high_watermarks(self._settings, Counter(topic for topic, _ in self._positions))
            while not stop.is_set():
                at = await reader.positions()
                # A place that was at no offset yet begins at the log's start.
                self.is_cut |= any(at[p] > 0 for p, known in self._positions.items() if known is None)
                self._positions.update(at)
                if all(at[place] >= end for place, end in ends.items()):
                    self.caught_up.set()
                fetched = await reader.fetch(limit=BATCH, wait_seconds=WAIT_SECONDS)
                for records in fetched.values():
                    for record in records:
                        await self._hand_over(record)
                        self._positions[(record.topic, record.partition)] = record.offset + 1
                if not fetched or self._undecodable.is_due():
                    await self._undecodable.keep()

    async def _hand_over(self, record: ConsumerRecord) -> None:
        try:
            with decode_boundary(record):
                await self._on_record(record)
        except RecordError as error:
            self._undecodable.skip(record, error)
