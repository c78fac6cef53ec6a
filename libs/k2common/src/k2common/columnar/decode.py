"""Fetched record batches to columns, without an object per record.

Batches are read as the blocks of one Avro container. A batch that fails any of its checks is read again
record by record, to find the messages that are at fault.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import fastavro
import numpy as np
import polars_avro
import pyarrow as pa

from k2common.columnar.arrow import Column, type_name, unwrap
from k2common.columnar.container import (
    FRAME,
    FRAME_BYTES,
    HEADERS,
    OFFSET_DELTA,
    container,
    is_whole,
    read_container,
)
from k2common.columnar.record_batch import FetchedBatch, records_section
from k2common.columnar.records import Record, read_records, read_varint
from k2common.domain.dead_letters import REDRIVEN_HEADER

SLOT_BYTES = 4 * 1024 * 1024
"""What is taken apart at once, unpacked: a reader needs several times that; larger gains nothing."""
POSITION_FIELDS = (
    pa.field("kafka_partition", pa.int32(), nullable=False),
    pa.field("kafka_offset", pa.int64(), nullable=False),
)


Schemas: TypeAlias = Mapping[int, Mapping[str, Any] | None]


class SchemasNeeded(Exception):
    """Decoding needs the writers' schemas with these ids."""

    def __init__(self, ids: Iterable[int]) -> None:
        self.ids = frozenset(ids)
        super().__init__(f"schemas {sorted(self.ids)} are needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """A message that is no record of its topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    schema_id: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedRecords:
    """`rows` are in fetch order and carry `kafka_partition` and `kafka_offset`.

    `redriven` are the partitions and offsets of those that were dead letters once.
    """

    rows: pa.Table
    poison: Sequence[Poison]
    redriven: Sequence[tuple[int, int]] = ()


class RecordDecoder:
    """Decodes batches of one topic to `schema`, the dataset's columns; every row or a poison message."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = pa.schema([*schema, *POSITION_FIELDS])
        self._columns = schema

    def decode(
        self, batches: Sequence[FetchedBatch], schemas: Schemas, refused: Mapping[int, str] | None = None
    ) -> DecodedRecords:
        """Rows and poison of `batches`.

        A schema of None is one that cannot be read, since the registry does not know it or for the reason
        that stands in `refused`. Raises SchemasNeeded when `schemas` lacks an id: get it and call again.
        """
        tables: list[pa.Table] = []
        poison: list[Poison] = []
        redriven: list[tuple[int, int]] = []
        for schema_id, slot in _slots(batches):
            if schema_id is not None and schema_id not in schemas:
                raise SchemasNeeded({schema_id})
            table = None if schema_id is None else self._fast(slot, schema_id, schemas[schema_id])
            if table is not None:
                tables.append(table)
                continue
            for one in slot:
                table = None if schema_id is None else self._fast([one], schema_id, schemas[schema_id])
                if table is None:
                    slow = self._slow(*one, schemas, refused or {})
                    table = slow.rows
                    poison += slow.poison
                    redriven += slow.redriven
                tables.append(table)
        # In one piece, for whoever sorts them holds the pieces beside it otherwise.
        rows = pa.concat_tables(tables).combine_chunks() if tables else self.schema.empty_table()
        return DecodedRecords(rows=rows, poison=poison, redriven=redriven)

    def _fast(
        self,
        group: Sequence[tuple[FetchedBatch, memoryview]],
        schema_id: int,
        schema: Mapping[str, Any] | None,
    ) -> pa.Table | None:
        if schema is None:
            return None
        frame = _frame(schema_id)
        try:
            names = [entry["name"] for entry in schema["fields"]]
            frame_columns = [OFFSET_DELTA, FRAME, HEADERS]
            read = read_container(container(group, schema, frame), [*frame_columns, *names])
            counts = [batch.count for batch, _ in group]
            if not is_whole(read, counts, frame):
                return None
            rows = _without_sentinels(self._aligned(read, schema), counts)
            return self._positioned(rows, group)
        # What a native reader says of broken data; some makes it panic.
        except (polars_avro.AvroError, pa.ArrowInvalid, ValueError, OSError):
            return None
        # pyo3's PanicException is no Exception and cannot be imported; all else goes on.
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            return None

    def _aligned(self, rows: pa.Table, written: Mapping[str, Any]) -> pa.Table:
        types = {entry["name"]: entry["type"] for entry in written["fields"]}
        columns: list[Column] = []
        for field in self._columns:
            if field.name not in types:
                if not field.nullable:
                    raise ValueError(f"{field.name} is not in the writer's schema")
                columns.append(pa.nulls(rows.num_rows, field.type))
                continue
            inner, _ = unwrap(types[field.name])
            column = _column(rows.column(field.name).combine_chunks(), type_name(inner), field.type)
            if pa.types.is_decimal(field.type):
                column.validate(full=True)
            columns.append(column)
        return pa.Table.from_arrays(columns, schema=self._columns)

    def _positioned(self, rows: pa.Table, group: Sequence[tuple[FetchedBatch, memoryview]]) -> pa.Table:
        partitions = np.repeat(
            np.array([batch.partition for batch, _ in group], np.int32), [batch.count for batch, _ in group]
        )
        offsets = np.concatenate(
            [np.arange(batch.base_offset, batch.base_offset + batch.count) for batch, _ in group]
        )
        table = pa.Table.from_arrays(
            [*rows.columns, pa.array(partitions), pa.array(offsets)],
            schema=self.schema,
        )
        if all(batch.wanted_from <= batch.base_offset for batch, _ in group):
            return table
        wanted = np.repeat([batch.wanted_from for batch, _ in group], [batch.count for batch, _ in group])
        return table.filter(pa.array(offsets >= wanted))

    def _slow(
        self,
        batch: FetchedBatch,
        section: memoryview,
        schemas: Schemas,
        refused: Mapping[int, str],
    ) -> DecodedRecords:
        records = [
            record
            for record in read_records(section, batch.base_offset)
            if record.offset >= batch.wanted_from
        ]
        ids = {schema_id for r in records if (schema_id := framed_schema_id(r.value)) is not None}
        if missing := ids - schemas.keys():
            raise SchemasNeeded(missing)
        tables = [self.schema.empty_table()]
        poison: list[Poison] = []
        redriven: list[tuple[int, int]] = []
        for record in records:
            try:
                tables.append(self._one(record, batch.partition, schemas, refused))
            # What fastavro and Arrow say of bytes that they were not made for has no common type. The message
            # becomes a dead letter.
            except Exception as error:  # noqa: BLE001
                poison.append(_poison(record, batch.partition, error))
                continue
            if any(name == REDRIVEN_HEADER for name, _ in record.headers):
                redriven.append((batch.partition, record.offset))
        return DecodedRecords(rows=pa.concat_tables(tables), poison=poison, redriven=redriven)

    def _one(self, record: Record, partition: int, schemas: Schemas, refused: Mapping[int, str]) -> pa.Table:
        schema_id = framed_schema_id(record.value)
        if schema_id is None or record.value is None:
            raise ValueError("the value does not begin with the registry's five bytes")
        schema = schemas[schema_id]
        if schema is None:
            raise ValueError(refused.get(schema_id, f"the registry has no schema {schema_id}"))
        stream = io.BytesIO(record.value[FRAME_BYTES:])
        row: Any = fastavro.schemaless_reader(stream, fastavro.parse_schema(dict(schema)), None)
        if stream.read(1):
            raise ValueError("bytes follow the record")
        plain = {
            name: list(value.items()) if isinstance(value, dict) else value for name, value in row.items()
        }
        plain |= {"kafka_partition": partition, "kafka_offset": record.offset}
        table = pa.Table.from_pylist([plain], schema=self.schema)
        for field, column in zip(table.schema, table.columns, strict=True):
            if column.null_count and not field.nullable:
                raise ValueError(f"{field.name} is not in the writer's schema")
        return table


def framed_schema_id(value: bytes | None) -> int | None:
    """The schema id in the registry's five bytes; None where the value does not begin with them."""
    if value is None or len(value) < FRAME_BYTES or value[0]:
        return None
    return int.from_bytes(value[1:FRAME_BYTES], "big")


def _poison(record: Record, partition: int, error: Exception) -> Poison:
    return Poison(
        partition=partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        schema_id=framed_schema_id(record.value),
        reason=f"{type(error).__name__}: {error}",
    )


def _without_sentinels(rows: pa.Table, counts: Sequence[int]) -> pa.Table:
    """The same buffers without the row that follows each batch; nothing is copied."""
    starts = np.cumsum([0, *(count + 1 for count in counts[:-1])]).tolist()
    return pa.concat_tables([rows.slice(at, count) for at, count in zip(starts, counts, strict=True)])


def _frame(schema_id: int) -> bytes:
    return b"\x00" + schema_id.to_bytes(4, "big")


def _slots(
    batches: Sequence[FetchedBatch],
) -> Iterator[tuple[int | None, Sequence[tuple[FetchedBatch, memoryview]]]]:
    """The batches unpacked, as many at a time as SLOT_BYTES hold, each time with one writer's schema."""
    slot: list[tuple[FetchedBatch, memoryview]] = []
    schema_id, held = None, 0
    for batch in batches:
        section = records_section(batch.payload)
        found = _first_schema_id(section)
        if slot and (found != schema_id or held + len(section) > SLOT_BYTES):
            yield schema_id, slot
            slot, held = [], 0
        slot.append((batch, section))
        schema_id, held = found, held + len(section)
    if slot:
        yield schema_id, slot


def _first_schema_id(section: memoryview) -> int | None:
    try:
        _, at = read_varint(section, 0)
        _, at = read_varint(section, at + 1)
        _, at = read_varint(section, at)
        key_length, at = read_varint(section, at)
        value_length, at = read_varint(section, at + max(key_length, 0))
        if value_length < FRAME_BYTES:
            return None
        return framed_schema_id(bytes(section[at : at + FRAME_BYTES]))
    except IndexError:
        return None


def _column(column: Column, avro_name: str, target: Any) -> Column:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if avro_name == "decimal" and not pa.types.is_decimal(column.type):
        raise ValueError(f"the reader gives {column.type} for a decimal")
    return column if column.type == target else column.cast(target)
