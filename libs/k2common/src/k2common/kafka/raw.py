"""Whole record batches in and out of aiokafka, past its objects per record.

aiokafka is pinned, and every private name that is used here is named in PRIVATE; a test looks for each, so
that an upgrade which moves one fails there and not at night.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher as fetching
from aiokafka.errors import CorruptRecordException
from aiokafka.producer.message_accumulator import BatchBuilder

from k2common.columnar.record_batch import PREFIX, EncodedBatch, FetchedBatch, split, stamp

PRIVATE = (
    (AIOKafkaConsumer, "__init__", "_fetcher"),
    (fetching.Fetcher, "_proc_fetch_request", "MemoryRecords"),
    (fetching.Fetcher, "_proc_fetch_request", "PartitionRecords"),
    (fetching.PartitionRecords, "__init__", "_aborted_transactions"),
    (fetching.PartitionRecords, "__init__", "_aborted_producers"),
    (fetching.PartitionRecords, "__init__", "_records"),
    (fetching.PartitionRecords, "__init__", "next_fetch_offset"),
    (fetching.PartitionRecords, "_consume_aborted_up_to", "_aborted_transactions"),
    (BatchBuilder, "_set_producer_state", "set_producer_state"),
    (BatchBuilder, "_build", "_buffer"),
    (BatchBuilder, "close", "_closed"),
)
"""Class, method, and a name that the method's code uses."""


class ReadyBatch(BatchBuilder):  # type: ignore[misc] # aiokafka has no types
    """A batch that was encoded elsewhere; only the producer's state is still to be filled in."""

    def __init__(self, batch: EncodedBatch, *, transactional: bool) -> None:
        # Nothing of the base is kept: it would build a batch record by record.
        self._batch = batch
        self._transactional = transactional
        self._buffer: bytes | None = None
        self._closed = True

    def append(self, **_: object) -> None:
        return None

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._buffer = stamp(
            self._batch,
            producer_id=producer_id,
            epoch=producer_epoch,
            sequence=base_sequence,
            transactional=self._transactional,
        )

    def _build(self) -> bytes | None:
        return self._buffer

    def size(self) -> int:
        return len(self._batch.payload)

    def record_count(self) -> int:
        return self._batch.count


class _Answer:
    """The bytes of a fetch answer, in the place of aiokafka's MemoryRecords."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data or b"")

    def has_next(self) -> bool:
        """Whether there is one whole batch."""
        if len(self.data) < PREFIX.size:
            return False
        _, length = PREFIX.unpack_from(self.data)
        return PREFIX.size + int(length) <= len(self.data)

    def size_in_bytes(self) -> int:
        return len(self.data)


class _Batches(fetching.PartitionRecords):  # type: ignore[misc] # aiokafka has no types
    """The batches of a fetch answer that are committed, in the place of aiokafka's PartitionRecords."""

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[FetchedBatch]:
        committed_only = self._isolation_level == fetching.READ_COMMITTED
        try:
            for header, batch in split(self._records.data):
                wanted_from = self.next_fetch_offset
                self.next_fetch_offset = max(wanted_from, header.next_offset)
                if committed_only:
                    self._consume_aborted_up_to(header.base_offset)
                if header.is_control:
                    # Any marker of a producer ends its transaction, so the aborted one that was open.
                    self._aborted_producers.discard(header.producer_id)
                elif not (header.is_transactional and header.producer_id in self._aborted_producers):
                    yield FetchedBatch(
                        partition=self._tp.partition,
                        base_offset=header.base_offset,
                        count=header.count,
                        wanted_from=wanted_from,
                        payload=batch,
                    )
        except ValueError as error:
            raise CorruptRecordException(f"{self._tp}: {error}") from error


def read_whole_batches(consumer: AIOKafkaConsumer) -> None:
    """Make `getmany` of a started consumer that has nothing assigned yet give FetchedBatch objects.

    `max_records` of `getmany` counts batches then. Aborted transactions are left out as before.
    """
    fetcher: Any = consumer._fetcher  # noqa: SLF001
    original: Any = fetching.Fetcher._proc_fetch_request  # noqa: SLF001
    names = {**vars(fetching), "MemoryRecords": _Answer, "PartitionRecords": _Batches}
    process = FunctionType(original.__code__, names, original.__name__, original.__defaults__)
    fetcher._proc_fetch_request = MethodType(process, fetcher)  # noqa: SLF001
