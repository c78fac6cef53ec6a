"""Kafka's record batches as the blocks of an Avro container in memory, which a native reader takes apart.

The records section of an uncompressed batch is itself Avro data: every record is {length, attributes,
timestamp delta, offset delta, key, value length, the registry's five bytes, the row's own fields, number of
headers}.

After each batch stands a sentinel record: a message with a byte too many or too few shifts all that follows,
and then the sentinel or the offset deltas are not what they must be.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# The one private name: through `read_avro` every column becomes one of polars and then Arrow's again, which
# costs as much as two thirds of the reading.
from polars_avro._avro_rs import AvroSource

from k2common.columnar.arrow import type_name
from k2common.columnar.record_batch import FetchedBatch
from k2common.columnar.records import write_varint

SYNC = b"k2-sync-marker.."
SENTINEL_DELTA = -7
SENTINEL_HEADERS = 77
FRAME_BYTES = 5
OFFSET_DELTA, FRAME, HEADERS = "k2_offset_delta", "k2_frame", "k2_headers"
READ_ROWS = 65_536


def container(
    group: Sequence[tuple[FetchedBatch, memoryview]], schema: Mapping[str, Any], frame: bytes
) -> bytes:
    """The batches, of one writer's `schema` and with its `frame`, as an Avro container of every record."""
    sentinel = _sentinel(schema, frame)
    text = json.dumps(_record_schema(schema)).encode()
    parts: list[bytes | memoryview] = [b"Obj\x01\x04\x16avro.schema", write_varint(len(text)), text]
    parts += [b"\x14avro.codec\x08null\x00", SYNC]
    for batch, section in group:
        parts += [write_varint(batch.count + 1), write_varint(len(section) + len(sentinel))]
        parts += [section, sentinel, SYNC]
    return b"".join(parts)


def _record_schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    def fixed(name: str, size: int) -> Mapping[str, Any]:
        return {"name": name, "type": {"type": "fixed", "name": f"{name}_bytes", "size": size}}

    def long(name: str) -> Mapping[str, Any]:
        return {"name": name, "type": "long"}

    start = [long("k2_length"), fixed("k2_attributes", 1), long("k2_ts_delta"), long(OFFSET_DELTA)]
    value = [{"name": "k2_key", "type": "bytes"}, long("k2_value_length"), fixed(FRAME, FRAME_BYTES)]
    return {**schema, "fields": [*start, *value, *schema["fields"], long(HEADERS)]}


def _sentinel(schema: Mapping[str, Any], frame: bytes) -> bytes:
    fields = b"".join(_zero(entry["type"]) for entry in schema["fields"])
    delta, headers = write_varint(SENTINEL_DELTA), write_varint(SENTINEL_HEADERS)
    return b"\x00\x00\x00" + delta + b"\x00\x00" + frame + fields + headers


def _zero(avro_type: Any) -> bytes:
    if isinstance(avro_type, list):
        return b"\x00"
    name = type_name(avro_type)
    return {"decimal": b"\x02\x00", "double": bytes(8)}.get(name, b"\x00")


def read_container(packed: bytes, columns: Sequence[str]) -> pa.Table:
    """These columns of every record of a container, as the reader makes them.

    Enums come as dictionaries. Raises what the reader says of broken data, PanicException among it.
    """
    source = AvroSource([lambda: nullcontext(io.BytesIO(packed))], strict=False, utf8_view=False)
    batches: Any = source.batch_iter(READ_ROWS, list(columns))
    return pa.Table.from_batches([pa.record_batch(batch) for batch in batches])


def is_whole(read: pa.Table, counts: Sequence[int], frame: bytes) -> bool:
    """Whether the rows read are the records of batches with `counts` records each, and their sentinels."""
    expected = np.concatenate([np.append(np.arange(count), SENTINEL_DELTA) for count in counts])
    headers = np.where(expected == SENTINEL_DELTA, SENTINEL_HEADERS, 0)
    framed = pa.scalar(frame, pa.binary(FRAME_BYTES))
    return bool(
        read.num_rows == len(expected)
        and np.array_equal(read[OFFSET_DELTA].to_numpy(), expected)
        and np.array_equal(read[HEADERS].to_numpy(), headers)
        and pc.all(pc.equal(read[FRAME], framed)).as_py()
    )
