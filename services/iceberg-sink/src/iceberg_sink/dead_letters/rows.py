"""From the dlq topics to ingest.dead_letters: one row per dead letter, however often it was written.

A sink that is killed between a letter and the commit that passes it writes the letter again. All letters of
one topic come through one partition, whose owner alone commits them: what the table held when the work began
and what was written since is all that there can be.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from k2common.columnar.arrow import arrow_schema_of
from k2common.columnar.record_batch import FetchedBatch, records_section
from k2common.columnar.records import read_records
from k2common.domain.dead_letters import DeadLetter, Position
from k2common.errors import RecordError
from k2common.iceberg.catalogs.catalog import Catalog, load_table
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.rows import read_rows
from k2common.runtime.blocking import Blocking
from k2common.runtime.clock import Clock
from k2common.schemas.datasets import DEAD_LETTERS

from iceberg_sink.batches.batches import WrittenFiles, with_epoch, write_files

KEY = ("topic", "topic_epoch", "topic_partition", "topic_offset")


class LetterWriter:
    """Writes dead letters; of use for one run of a table's work, which began before the first `write`."""

    def __init__(
        self, *, catalog: Catalog, reader: VersionReader, blocking: Blocking, epoch: int, clock: Clock
    ) -> None:
        self._catalog = catalog
        self._reader = reader
        self._blocking = blocking
        self._epoch = epoch
        self._clock = clock
        self._known: set[Position] | None = None

    async def write(self, batches: Sequence[FetchedBatch]) -> WrittenFiles:
        """The letters that the table lacks as files.

        Raises TransientError when the catalogue or the warehouse is unavailable.
        """
        return await self._blocking.run(self._write, batches)

    def _write(self, batches: Sequence[FetchedBatch]) -> WrittenFiles:
        if self._known is None:
            self._known = self._in_table()
        rows = []
        for batch in batches:
            for record in read_records(records_section(batch.payload), batch.base_offset):
                letter = self._letter(
                    record.key, record.value, record.headers, batch.partition, record.offset
                )
                if record.offset >= batch.wanted_from and letter.position not in self._known:
                    self._known.add(letter.position)
                    rows.append(_row(letter, partition=batch.partition, offset=record.offset))
        if not rows:
            return WrittenFiles()
        table = with_epoch(pa.Table.from_pylist(rows, schema=SCHEMA), self._epoch)
        return WrittenFiles(
            rows=len(rows),
            files=write_files(table, DEAD_LETTERS, table=load_table(self._catalog, DEAD_LETTERS.table)),
        )

    def _letter(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        number: int,
        offset: int,
    ) -> DeadLetter:
        try:
            return DeadLetter.of_message(key=key, value=value, headers=headers)
        except RecordError as error:
            return DeadLetter(
                topic=DEAD_LETTERS.topics[number].name,
                epoch=self._epoch,
                partition=0,
                offset=offset,
                reason=str(error),
                lettered_at=self._clock.now(),
                key=key,
                value=value,
            )

    def _in_table(self) -> set[Position]:
        version = self._reader.refresh(DEAD_LETTERS.table)
        if version is None:
            return set()
        rows = read_rows(self._catalog, self._reader.plan(version), KEY)
        if not rows.num_rows:
            return set()
        return set(zip(*(rows[name].to_pylist() for name in KEY), strict=True))


SCHEMA = pa.schema(
    [
        *arrow_schema_of(DEAD_LETTERS.topic.schema),
        pa.field("kafka_partition", pa.int32()),
        pa.field("kafka_offset", pa.int64()),
    ]
)


def _row(letter: DeadLetter, *, partition: int, offset: int) -> dict[str, object]:
    return {
        "topic": letter.topic,
        "topic_epoch": letter.epoch,
        "topic_partition": letter.partition,
        "topic_offset": letter.offset,
        "upload_id": letter.upload_id,
        "schema_id": letter.schema_id,
        "reason": letter.reason,
        "lettered_at": letter.lettered_at,
        "message_key": letter.key,
        "message_value": letter.value,
        "kafka_partition": partition,
        "kafka_offset": offset,
    }
