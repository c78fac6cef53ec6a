"""Parts the records that belong to uploads from those that nobody named: these never come into a table.

Whether a record is a stray is read from the log and never from a clock, so every replica finds the same, also
after a restart. Records, their status and their redrive mark are appended in one transaction, all of it
before the transaction is committed. A record that is visible was therefore named, if it ever will be, below
the high watermarks of the naming topics that are asked for after the record was fetched. Once those topics
are read up to there, under read_committed, a record without a name is a stray.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from k2common.columnar.decode import Poison, framed_schema_id
from k2common.columnar.record_batch import FetchedBatch, records_section
from k2common.columnar.records import Record, read_records
from k2common.errors import Fenced
from k2common.kafka.consumer import Place
from k2common.kafka.follower import Follower
from k2common.runtime.clock import Clock

from iceberg_sink.batches.source_order import Reversal, SourceOrder
from iceberg_sink.uploads.named_offsets import NamedOffsets

STRAY = "no status and no redrive names this offset: the record belongs to no upload"
BESIDE_STRAY = "its record batch holds offsets that no status names"
GRACE_SECONDS = 0.5
"""A status is mostly read a moment after its records; the watermarks are asked for after this."""
POLL_SECONDS = 0.01

Watermarks = Callable[[], Awaitable[Mapping[Place, int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartedBatches:
    """Record batches whose every record is named, and the records of the others.

    `strays` are named by nothing; `beside` are named, and in one record batch with strays.
    """

    batches: Sequence[FetchedBatch]
    strays: Sequence[Poison] = ()
    beside: Sequence[Poison] = ()


class StrayRecords:
    """Finds the strays of one topic, whose log is of `epochs`."""

    def __init__(
        self,
        topic: str,
        *,
        epochs: Sequence[int],
        named: NamedOffsets,
        followers: Sequence[Follower],
        watermarks: Watermarks,
        clock: Clock,
        on_reversal: Callable[[Reversal], None],
    ) -> None:
        """`followers` read the topics of `watermarks` and feed `named`. `on_reversal` is called
        with named batches whose source positions do not grow, and nothing is dropped for that.
        """
        self._topic = topic
        self._epochs = epochs
        self._named = named
        self._followers = followers
        self._watermarks = watermarks
        self._clock = clock
        self._order = SourceOrder()
        self._on_reversal = on_reversal

    async def part(self, batches: Sequence[FetchedBatch], stop: asyncio.Event) -> PartedBatches | None:
        """The batches in two; None once `stop` is set.

        Waits for the naming topics while a batch has no name, however long their transactions take. Raises
        Fenced for offsets that another owner has passed, TransientError when Kafka is unavailable.
        """
        unnamed = self._unnamed(batches)
        if unnamed:
            unnamed = await self._wait_for_names(unnamed, stop)
            if stop.is_set():
                return None
        self._check_order(batches)
        if not unnamed:
            return PartedBatches(batches=batches)
        if any(self._named.is_forgotten(self._topic, batch, epochs=self._epochs) for batch in unnamed):
            raise Fenced(f"{self._topic}: the table has passed what was fetched")
        return self._parted(batches, unnamed)

    async def _wait_for_names(
        self, unnamed: Sequence[FetchedBatch], stop: asyncio.Event
    ) -> Sequence[FetchedBatch]:
        asking_at = self._clock.monotonic() + GRACE_SECONDS
        ends: Mapping[Place, int] | None = None
        while unnamed and not stop.is_set():
            if ends is not None and self._has_read(ends):
                # Names may have come between the look at them and the one at the positions.
                return self._unnamed(unnamed)
            if ends is None and self._clock.monotonic() >= asking_at:
                ends = await self._watermarks()
                continue
            await self._clock.sleep(POLL_SECONDS)
            unnamed = self._unnamed(unnamed)
        return unnamed

    def _check_order(self, batches: Sequence[FetchedBatch]) -> None:
        for batch in batches:
            named = self._named.range_of(self._topic, batch, epochs=self._epochs)
            if named is not None and (reversal := self._order.check(batch.partition, named)) is not None:
                self._on_reversal(reversal)

    def _has_read(self, ends: Mapping[Place, int]) -> bool:
        return all(
            max(follower.position(*place) for follower in self._followers) >= end
            for place, end in ends.items()
        )

    def _unnamed(self, batches: Sequence[FetchedBatch]) -> Sequence[FetchedBatch]:
        return [
            batch for batch in batches if not self._named.names_batch(self._topic, batch, epochs=self._epochs)
        ]

    def _parted(self, batches: Sequence[FetchedBatch], unnamed: Sequence[FetchedBatch]) -> PartedBatches:
        strays: list[Poison] = []
        beside: list[Poison] = []
        for batch in unnamed:
            offsets = self._named.unnamed(self._topic, batch, epochs=self._epochs)
            for record in _records(batch):
                found, reason = (strays, STRAY) if record.offset in offsets else (beside, BESIDE_STRAY)
                found.append(_poison(record, batch.partition, reason))
        apart = set(map(id, unnamed))
        whole = [batch for batch in batches if id(batch) not in apart]
        return PartedBatches(batches=whole, strays=strays, beside=beside)


def _records(batch: FetchedBatch) -> Iterator[Record]:
    for record in read_records(records_section(batch.payload), batch.base_offset):
        if record.offset >= batch.wanted_from:
            yield record


def _poison(record: Record, partition: int, reason: str) -> Poison:
    return Poison(
        partition=partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        schema_id=framed_schema_id(record.value),
        reason=reason,
    )
