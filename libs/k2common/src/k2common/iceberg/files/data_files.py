"""Rows become data files: one for each day, sorted as given, with the offsets that they hold in the footer.

The footer's key-value entries are `k2.offsets`, [[epoch, partition, first, last], …] with both ends
inclusive, and `k2.uploads`, the list of uploads, left out where there are many. The file's name holds the
SHA-256 of its bytes (`digests`), and its pages have checksums.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionFieldValue, PartitionKey
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import IcebergType, ListType, LongType, MapType, StringType

from k2common.iceberg.files.digests import data_file_name

OFFSETS_KEY = b"k2.offsets"
UPLOADS_KEY = b"k2.uploads"
FIELD_ID_KEY = b"PARQUET:field_id"
PLACE_COLUMNS = ["kafka_epoch", "kafka_partition", "kafka_offset"]
ROW_GROUP_ROWS = 32_768
MAX_UPLOADS_IN_FOOTER = 64
MICROSECONDS_PER_DAY = 86_400_000_000
DICTIONARY_COLUMNS = frozenset(
    {"symbol", "venue", "source", "asset_class", "side", "currency", "upload_id", "table", "dataset", "state"}
)
"""Few values per row group; a dictionary on any other column costs time and bytes."""
DICTIONARY_TYPES = ("date", "int")


def write(rows: pa.Table, *, table: Table) -> list[DataFile]:
    """Write rows, sorted by the dataset's order, as one file per day partition of `table`.

    The columns are the table's, by name. Nothing is committed: a file that no commit names is never read.
    Raises KeyError when a column of the table is missing.
    """
    written = []
    for one in encoded(rows, table=table):
        one.store(table)
        written.append(one.data_file)
    return written


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedFile:
    """The bytes of a data file that is not stored yet, and what a manifest will say of it."""

    data_file: DataFile
    content: bytes

    def store(self, table: Table) -> None:
        """Write the file to the warehouse. Raises what the store raises."""
        with table.io.new_output(self.data_file.file_path).create() as output:
            output.write(self.content)


def encoded(rows: pa.Table, *, table: Table) -> Iterator[EncodedFile]:
    """Encode rows as `write` does, one file per day partition, without storing anything."""
    if rows.num_rows == 0:
        return
    rows = _with_field_ids(rows, table.schema())
    for day, part in _days(rows, table):
        yield _encoded(part, day, table=table)


def _days(rows: pa.Table, table: Table) -> Iterator[tuple[int | None, pa.Table]]:
    """The rows of each day, in the order they came in; slices of one table that was sorted by day once."""
    fields = table.spec().fields
    if not fields:
        yield None, rows
        return
    column = rows[table.schema().find_column_name(fields[0].source_id)]
    days = np.asarray(pc.cast(column, pa.int64())) // MICROSECONDS_PER_DAY
    if (days[1:] < days[:-1]).any():
        order = np.argsort(days, kind="stable")
        rows, days = rows.take(pa.array(order)), days[order]
    starts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    for first, end in pairwise(starts):
        yield int(days[first]), rows.slice(first, end - first)


def _encoded(rows: pa.Table, day: int | None, *, table: Table) -> EncodedFile:
    schema, key = table.schema(), _partition_key(table, day)
    # In memory first, since the name holds the digest.
    stream = pa.BufferOutputStream()
    writer = pq.ParquetWriter(stream, rows.schema, **_encodings(schema))
    with writer:
        writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
        writer.add_key_value_metadata(footer(rows))
    data = stream.getvalue().to_pybytes()
    path = table.location_provider().new_data_location(data_file_name(data), key)
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=writer.writer.metadata,
        stats_columns=compute_statistics_plan(schema, table.properties),
        parquet_column_mapping=parquet_path_to_id_mapping(schema),
    )
    data_file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=key.partition if key else Record(),
        file_size_in_bytes=len(data),
        sort_order_id=None,
        spec_id=table.spec().spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )
    return EncodedFile(data_file=data_file, content=data)


def _partition_key(table: Table, day: int | None) -> PartitionKey | None:
    if day is None:
        return None
    spec = table.spec()
    value = PartitionFieldValue(field=spec.fields[0], value=day)
    return PartitionKey(field_values=[value], partition_spec=spec, schema=table.schema())


def footer(rows: pa.Table) -> Mapping[bytes, bytes]:
    """The key-value entries that say where in Kafka the rows came from, and from which uploads.

    Rows that another engine made up have no place in Kafka; a file with such rows says nothing of places.
    """
    entries: dict[bytes, bytes] = {}
    if not any(rows[name].null_count for name in PLACE_COLUMNS):
        entries[OFFSETS_KEY] = json.dumps(_offset_ranges(rows)).encode()
    if "upload_id" in rows.column_names:
        uploads = pc.unique(rows["upload_id"])
        if len(uploads) <= MAX_UPLOADS_IN_FOOTER:
            entries[UPLOADS_KEY] = json.dumps(
                sorted(u for u in uploads.to_pylist() if u is not None)
            ).encode()
    return entries


def _offset_ranges(rows: pa.Table) -> Sequence[Sequence[int]]:
    places = rows.select(PLACE_COLUMNS)
    ranges = places.group_by(["kafka_epoch", "kafka_partition"]).aggregate(
        [("kafka_offset", "min"), ("kafka_offset", "max")]
    )
    names = ("kafka_epoch", "kafka_partition", "kafka_offset_min", "kafka_offset_max")
    return sorted(zip(*(ranges[name].to_pylist() for name in names), strict=True))


def _encodings(schema: Schema) -> dict[str, Any]:
    longs = [
        f.name for f in schema.fields if isinstance(f.field_type, LongType) or str(f.field_type) in TIMES
    ]
    dictionary = [
        f.name
        for f in schema.fields
        if str(f.field_type) in DICTIONARY_TYPES
        or (isinstance(f.field_type, StringType) and f.name in DICTIONARY_COLUMNS)
    ]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": dictionary,
        "column_encoding": dict.fromkeys(longs, "DELTA_BINARY_PACKED"),
        "store_schema": False,
        "store_decimal_as_integer": True,
        "write_page_checksum": True,
    }


TIMES = ("timestamptz", "timestamp")


def _with_field_ids(rows: pa.Table, schema: Schema) -> pa.Table:
    """The same buffers under a schema with Iceberg's field ids, columns in the table's order."""
    columns, fields = [], []
    for column in schema.fields:
        given = rows.schema.field(column.name)
        kind = _typed(given.type, column.field_type)
        fields.append(_identified(column.name, kind, column.field_id, nullable=not column.required))
        data = rows[column.name]
        columns.append(data if kind == given.type and not pa.types.is_nested(kind) else data.cast(kind))
    return pa.table(columns, schema=pa.schema(fields))


def _typed(given: Any, wanted: IcebergType) -> Any:
    if isinstance(wanted, ListType):
        item = _typed(given.value_type, wanted.element_type)
        return pa.list_(_identified("element", item, wanted.element_id, nullable=not wanted.element_required))
    if isinstance(wanted, MapType):
        key = _typed(given.key_type, wanted.key_type)
        value = _typed(given.item_type, wanted.value_type)
        return pa.map_(
            _identified("key", key, wanted.key_id, nullable=False),
            _identified("value", value, wanted.value_id, nullable=not wanted.value_required),
        )
    return given


def _identified(name: str, kind: Any, field_id: int, *, nullable: bool) -> Any:
    return pa.field(name, kind, nullable=nullable, metadata={FIELD_ID_KEY: str(field_id).encode()})
