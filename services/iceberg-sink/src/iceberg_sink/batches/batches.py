"""From fetched record batches to data files: decode, sort, write, each batch of rows as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from k2common.columnar.decode import Poison, SchemasNeeded
from k2common.columnar.record_batch import FetchedBatch
from k2common.columnar.sorting import sorted_rows
from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import AWAY, Catalog, Table, load_table
from k2common.iceberg.files.data_files import write
from k2common.registry.client import SchemaRegistry
from k2common.runtime.blocking import Blocking
from k2common.schemas.datasets import Dataset

from iceberg_sink.batches.writers_schemas import WritersSchemas
from iceberg_sink.uploads.visibility import ARRIVAL_COLUMNS, Ranges, arrivals

OFFSET_BITS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFiles:
    """Rows in files that no commit names yet, where those of each upload lie, and what was no record.

    `redriven` rows, `rows_redriven` of them, were dead letters once; `arrived` leaves them out. The newest
    times of the market and of ingest are Unix seconds, None where the rows have none.
    """

    rows: int = 0
    files: Sequence[Any] = ()
    arrived: Mapping[str, Ranges] = field(default_factory=dict)
    redriven: Mapping[str, Ranges] = field(default_factory=dict)
    poison: Sequence[Poison] = ()
    rows_redriven: int = 0
    newest_event: float | None = None
    newest_ingest: float | None = None


class Writer(Protocol):
    """Writes one table's rows."""

    async def write(self, batches: Sequence[FetchedBatch]) -> WrittenFiles:
        """The rows of the batches as files.

        Raises TransientError when a dependency is unavailable.
        """


class BatchWriter:
    """Writes the rows of one dataset from registered records."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        catalog: Catalog,
        registry: SchemaRegistry,
        blocking: Blocking,
        epoch: int,
    ) -> None:
        self._dataset = dataset
        self._catalog = catalog
        self._blocking = blocking
        self._epoch = epoch
        self._writers = WritersSchemas(dataset, catalog=catalog, registry=registry)

    async def write(self, batches: Sequence[FetchedBatch]) -> WrittenFiles:
        """The rows of the batches as files, and the messages among them that are no records.

        Raises TransientError when the registry or the warehouse is unavailable: that says nothing of a
        message.
        """
        self._writers.forget_unreadable()
        while True:
            try:
                return await self._blocking.run(self._write, batches)
            except SchemasNeeded as needed:
                for schema_id in needed.ids:
                    await self._writers.learn(schema_id)

    def _write(self, batches: Sequence[FetchedBatch]) -> WrittenFiles:
        readable = self._writers.readable(load_table(self._catalog, self._dataset.table))
        decoded = readable.decoder.decode(batches, readable.schemas, readable.refused)
        rows = with_epoch(decoded.rows, self._epoch)
        arrived, redriven = self._arrivals(rows, decoded.redriven)
        return WrittenFiles(
            rows=rows.num_rows,
            files=write_files(rows, self._dataset, table=readable.table),
            arrived=arrived,
            redriven=redriven,
            poison=decoded.poison,
            rows_redriven=len(decoded.redriven),
            newest_event=_newest(rows, "ts_event"),
            newest_ingest=_newest(rows, "ts_ingest"),
        )

    def _arrivals(
        self, rows: pa.Table, redriven: Sequence[tuple[int, int]]
    ) -> tuple[Mapping[str, Ranges], Mapping[str, Ranges]]:
        if not self._dataset.visibility:
            return {}, {}
        back = _at(rows, redriven)
        places = rows.select(ARRIVAL_COLUMNS)
        return arrivals(places.filter(pa.array(~back))), arrivals(places.filter(pa.array(back)))


def with_epoch(rows: pa.Table, epoch: int) -> pa.Table:
    """The rows with the column that their topic's generation goes into."""
    return rows.append_column("kafka_epoch", pa.array(np.full(rows.num_rows, epoch, np.int32)))


def write_files(rows: pa.Table, dataset: Dataset, *, table: Table) -> Sequence[Any]:
    """The rows as files of the table in the dataset's order.

    Raises TransientError when the warehouse does not answer.
    """
    try:
        return write(sorted_rows(rows, dataset.order), table=table)
    except AWAY as error:
        raise TransientError(f"{dataset.table} cannot be written to: {error}") from error


def _newest(rows: pa.Table, column: str) -> float | None:
    """The newest time of a column in microseconds, as Unix seconds."""
    if column not in rows.column_names:
        return None
    newest = pc.max(rows[column]).cast(pa.int64()).as_py()
    return None if newest is None else newest / 1_000_000


def _at(rows: pa.Table, places: Sequence[tuple[int, int]]) -> Any:
    """A mask of the rows at these partitions and offsets."""
    if not places:
        return np.zeros(rows.num_rows, bool)
    keys = (rows["kafka_partition"].to_numpy().astype(np.int64) << OFFSET_BITS) + rows[
        "kafka_offset"
    ].to_numpy()
    return np.isin(keys, [(partition << OFFSET_BITS) + offset for partition, offset in places])
