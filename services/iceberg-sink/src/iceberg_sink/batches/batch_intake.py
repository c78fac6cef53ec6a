"""What one commit takes from Kafka: record batches until rows, bytes or age are enough, whichever is first.

What comes after a pause is taken at once; while more comes, it gathers until the next commit is due, and all
that has come by then goes with it.

What was fetched beyond that is held for the next commit, and nothing more is fetched before it is gone. So
the memory of a table's work is bounded by the settings however long a commit takes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from k2common.columnar.record_batch import FetchedBatch, unpacked_bytes
from k2common.kafka.consumer import BatchReader, Place
from k2common.runtime.clock import Clock

from iceberg_sink.settings import SinkSettings

NEWEST = 0.1
"""The weight of the newest commit in what is usual: a single slow one changes little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedBatches:
    """Batches under the table's numbers of the partitions, and the next offset of every partition."""

    batches: Sequence[FetchedBatch]
    offsets: Mapping[int, int]

    @property
    def moved(self) -> Mapping[int, int]:
        """The next offsets of the partitions that the batches come from; of all, where there are none."""
        touched = {batch.partition for batch in self.batches}
        return {p: at for p, at in self.offsets.items() if p in touched or not touched}


class Pace:
    """From the beginning of one commit to that of the next it takes `seconds` at least.

    That is as long as commits take `share` of the time, whatever they cost on this store and machine, and
    never more than `interval_seconds`. Without a share it is the interval.
    """

    def __init__(self, interval_seconds: float, *, share: float | None) -> None:
        self.interval_seconds = interval_seconds
        self.seconds = interval_seconds
        self._share = share
        self._usual: float | None = None

    def took(self, seconds: float) -> None:
        """A commit took so long."""
        usual = seconds if self._usual is None else self._usual + (seconds - self._usual) * NEWEST
        self._usual = usual
        if self._share is not None:
            self.seconds = min(self.interval_seconds, usual / self._share)


class Intake:
    """Takes from one reader, at the pace of its commits.

    `numbers` says under which partitions the table knows its places.
    """

    def __init__(
        self,
        reader: BatchReader,
        *,
        numbers: Mapping[Place, int],
        pace: Pace,
        settings: SinkSettings,
        clock: Clock,
    ) -> None:
        self._reader = reader
        self._numbers = numbers
        self._pace = pace
        self._settings = settings
        self._clock = clock
        self._held: dict[Place, deque[FetchedBatch]] = defaultdict(deque)
        self._taken = clock.monotonic() - pace.interval_seconds

    async def take(self, stop: asyncio.Event, *, patience_seconds: float) -> FetchedBatches | None:
        """The next batches, none when nothing came within the patience; None once `stop` is set.

        Raises what the reader raises.
        """
        taken: list[FetchedBatch] = []
        room = _Room(rows=self._settings.commit_rows, bytes=self._settings.commit_bytes)
        given_up = self._clock.monotonic() + patience_seconds
        looked = False
        while not stop.is_set():
            taken += self._fitting(room)
            due = self._taken + self._pace.seconds if taken else given_up
            left = due - self._clock.monotonic()
            if room.full or (left <= 0 and looked):
                if taken:
                    self._taken = self._clock.monotonic()
                return FetchedBatches(batches=taken, offsets=await self._offsets())
            await self._fetch(max(0.0, left))
            # What has come by the time goes with it; else a backlog makes of each other commit what was held.
            looked = left <= 0
        return None

    @property
    def held(self) -> Sequence[FetchedBatch]:
        """What was fetched for the next commits."""
        return [batch for batches in self._held.values() for batch in batches]

    async def behind(self) -> int:
        """How many records of the log, as the newest fetches know its end, were not taken yet."""
        offsets = await self._offsets()
        ends = {number: self._reader.known_end(place) for place, number in self._numbers.items()}
        return sum(max(0, end - offsets[number]) for number, end in ends.items())

    async def _fetch(self, wait_seconds: float) -> None:
        found = await self._reader.fetch(limit=self._settings.fetch_batches, wait_seconds=wait_seconds)
        for place, batches in found.items():
            self._held[place].extend(batches)

    def _fitting(self, room: _Room) -> Iterator[FetchedBatch]:
        for place, batches in self._held.items():
            while batches and not room.full:
                batch = batches.popleft()
                room.rows -= batch.count
                room.bytes -= unpacked_bytes(batch.payload)
                yield replace(batch, partition=self._numbers[place])

    async def _offsets(self) -> Mapping[int, int]:
        positions = await self._reader.positions()
        return {
            self._numbers[place]: self._held[place][0].wanted_from if self._held[place] else at
            for place, at in positions.items()
        }


@dataclass(slots=True, kw_only=True)
class _Room:
    rows: int
    bytes: int

    @property
    def full(self) -> bool:
        return self.rows <= 0 or self.bytes <= 0
