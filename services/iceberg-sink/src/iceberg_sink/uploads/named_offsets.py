"""Which offsets of the market topics belong to an upload: those that a status or a redrive mark names.

See docs/adr/0009-rows-by-named-offsets.md.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from k2common.columnar.record_batch import FetchedBatch
from k2common.schemas.datasets import MARKET_DATASETS

LogPartition: TypeAlias = tuple[str, int, int]
"""Topic, epoch, partition."""
MARKET_TOPICS = frozenset(dataset.topic.name for dataset in MARKET_DATASETS.values())


@dataclass(frozen=True, slots=True)
class NamedRange:
    """Offsets `first` to `end` (exclusive) of one partition, and the upload of their records.

    `source` is where the chunk lies that they were parsed from, as epoch, partition and offset of
    ingest.chunks; `stated_at` is the partition and offset of the status. A redrive states neither.
    """

    first: int
    end: int
    upload_id: str
    source: tuple[int, int, int] | None = None
    stated_at: tuple[int, int] | None = None


EMPTY: Mapping[int, NamedRange] = MappingProxyType({})


class NamedOffsets:
    """Ranges of offsets of all market topics, until the topic's table has passed them."""

    def __init__(self) -> None:
        # The first of a plain dict is behind a hole for each that was taken off before.
        self._ranges: dict[LogPartition, OrderedDict[int, NamedRange]] = defaultdict(OrderedDict)
        self._forgotten: dict[LogPartition, int] = {}

    def add_status(self, status: Mapping[str, Any], *, stated_at: tuple[int, int]) -> None:
        """Take what the status at `stated_at`, a partition and offset of ingest.status, names."""
        epoch, partition = status["kafka_epoch"], status.get("chunk_partition")
        source = None if partition is None else (epoch, partition, status["chunk_offset"])
        for output in status["outputs"]:
            first, end = output["base_offset"], output["base_offset"] + output["count"]
            named = NamedRange(first, end, status["upload_id"], source, stated_at)
            self._add((output["topic"], epoch, output["partition"]), named)

    def add_redrive(self, mark: Mapping[str, Any]) -> None:
        """Take what a mark of ingest.redrives names; one without an upload names nothing."""
        if mark["upload_id"] is None:
            return
        for move in mark["moves"]:
            at = move["new_offset"]
            named = NamedRange(at, at + 1, mark["upload_id"])
            self._add((mark["topic"], move["new_epoch"], move["partition"]), named)

    def _add(self, place: LogPartition, named: NamedRange) -> None:
        if place[0] in MARKET_TOPICS and named.first < named.end:
            self._ranges[place][named.first] = named

    def range_of(self, topic: str, batch: FetchedBatch, *, epochs: Sequence[int]) -> NamedRange | None:
        """What names a batch whole by itself; None for a batch that several ranges name, or none."""
        for epoch in epochs:
            known = self._ranges.get((topic, epoch, batch.partition), EMPTY).get(batch.base_offset)
            if known is not None and known.end >= batch.base_offset + batch.count:
                return known
        return None

    def names_batch(self, topic: str, batch: FetchedBatch, *, epochs: Sequence[int]) -> bool:
        """Whether every record of the batch is named, in one of the epochs that this log is of."""
        if self.range_of(topic, batch, epochs=epochs) is not None:
            return True
        return not self.unnamed(topic, batch, epochs=epochs)

    def unnamed(self, topic: str, batch: FetchedBatch, *, epochs: Sequence[int]) -> frozenset[int]:
        """The offsets of the batch that nothing names. Slow: for the few batches that are not named whole."""
        left = set(range(batch.base_offset, batch.base_offset + batch.count))
        for epoch in epochs:
            for known in self._ranges.get((topic, epoch, batch.partition), EMPTY).values():
                left.difference_update(
                    range(
                        max(known.first, batch.base_offset), min(known.end, batch.base_offset + batch.count)
                    )
                )
        return frozenset(left)

    def is_forgotten(self, topic: str, batch: FetchedBatch, *, epochs: Iterable[int]) -> bool:
        """Whether names of such low offsets were forgotten, since the table had passed them."""
        return any(
            batch.base_offset < self._forgotten.get((topic, epoch, batch.partition), 0) for epoch in epochs
        )

    def forgets(self, topic: str, offsets: Mapping[int, int | None]) -> bool:
        """Whether a table that is at these offsets needs names that were forgotten."""
        return any(
            (offsets.get(partition) or 0) < end
            for (name, _, partition), end in self._forgotten.items()
            if name == topic
        )

    def forget_passed(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Forget names below the offsets of the topic's table."""
        for place, ranges in self._ranges.items():
            if place[0] != topic:
                continue
            end = offsets.get(place[2], 0)
            # About in the order of their offsets; one that is out of it waits for those before it.
            while ranges and (first := next(iter(ranges.values()))).end <= end:
                del ranges[first.first]
                self._forgotten[place] = max(self._forgotten.get(place, 0), first.end)

    def remember_from(self, topic: str) -> None:
        """All names of the topic will be added again, from the table's offsets on."""
        for place in [place for place in self._forgotten if place[0] == topic]:
            del self._forgotten[place]
