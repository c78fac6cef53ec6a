"""Second net under the loader's transactions: source positions only grow, or an alarm is raised.

Per chunk partition and output partition the chunks of consecutive records lie at growing offsets, and each
chunk is stated by one status. A transaction that was torn, or a loader that went on from a stale position,
shows here. Nothing is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from iceberg_sink.uploads.named_offsets import NamedRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """A record batch whose chunk lies before that of the batch ahead of it, or was published before."""

    partition: int
    offset: int
    upload_id: str
    chunk_partition: int
    chunk_offset: int
    last_chunk_offset: int


class SourceOrder:
    """Knows the newest chunk of each chunk partition in each output partition, from its first batch on."""

    def __init__(self) -> None:
        self._newest: dict[tuple[int, int, int], NamedRange] = {}

    def check(self, partition: int, named: NamedRange) -> Reversal | None:
        """Take the next batch of an output partition; what is wrong with its source position, if anything."""
        if named.source is None:
            return None
        epoch, chunk_partition, chunk_offset = named.source
        key = (partition, epoch, chunk_partition)
        newest = self._newest.get(key)
        if newest is None or newest.source is None or newest.source[2] < chunk_offset:
            self._newest[key] = named
            return None
        if newest.source[2] == chunk_offset and newest.stated_at == named.stated_at:
            return None
        return Reversal(
            partition=partition,
            offset=named.first,
            upload_id=named.upload_id,
            chunk_partition=chunk_partition,
            chunk_offset=chunk_offset,
            last_chunk_offset=newest.source[2],
        )
