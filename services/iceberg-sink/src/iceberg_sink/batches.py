"""From fetched record batches to data files: decode, sort, write, each batch of rows as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from k2common.columnar.arrow import arrow_schema
from k2common.columnar.decode import Decoded, RecordDecoder, SchemasNeeded
from k2common.columnar.record_batch import FetchedBatch
from k2common.columnar.sorting import sorted_rows
from k2common.errors import RecordError, SetupError
from k2common.iceberg.catalog import Catalog, load_table
from k2common.iceberg.files import write
from k2common.registry.client import SchemaRegistry
from k2common.runtime.blocking import Blocking
from k2common.schemas.datasets import Dataset, avro_schema

from iceberg_sink.visibility import Ranges, arrivals


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Rows in files that no commit names yet, and where the rows of each upload lie."""

    rows: int
    files: Sequence[Any]
    arrived: Mapping[str, Ranges]


class BatchWriter:
    """Writes the rows of one dataset."""

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
        self._registry = registry
        self._blocking = blocking
        self._epoch = epoch
        self._decoder = RecordDecoder(arrow_schema(avro_schema(dataset.topic.schema)))
        self._schemas: dict[int, Mapping[str, Any] | None] = {}

    async def write(self, batches: Sequence[FetchedBatch]) -> Written:
        """The rows of the batches as files.

        Raises TransientError when the registry or the warehouse is away, SetupError for a message that is no
        record: the table stays before it until it can be kept elsewhere.
        """
        while True:
            try:
                return await self._blocking.run(self._write, batches)
            except SchemasNeeded as needed:
                for schema_id in needed.ids:
                    self._schemas[schema_id] = await self._schema(schema_id)

    async def _schema(self, schema_id: int) -> Mapping[str, Any] | None:
        try:
            return await self._registry.schema(schema_id)
        except RecordError:
            return None

    def _write(self, batches: Sequence[FetchedBatch]) -> Written:
        decoded = self._decoder.decode(batches, self._schemas)
        self._refuse_poison(decoded)
        rows = decoded.rows
        epochs = pa.array(np.full(rows.num_rows, self._epoch, np.int32))
        rows = sorted_rows(rows.append_column("kafka_epoch", epochs), self._dataset.order)
        files = write(rows, table=load_table(self._catalog, self._dataset.table))
        arrived = arrivals(rows) if self._dataset.visibility else {}
        return Written(rows=rows.num_rows, files=files, arrived=arrived)

    def _refuse_poison(self, decoded: Decoded) -> None:
        if decoded.poison:
            first = decoded.poison[0]
            raise SetupError(
                f"{self._dataset.topic.name} {first.partition}: the message at offset {first.offset} "
                f"is no record: {first.reason}"
            )
