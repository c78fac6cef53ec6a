"""A dataset's Avro schema as an Iceberg schema: same names, same order, then the row's place in Kafka."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    TimestamptzType,
)

KAFKA_COLUMNS: tuple[tuple[str, IcebergType, str], ...] = (
    ("kafka_epoch", IntegerType(), "Generation of the topic that the row came through."),
    ("kafka_partition", IntegerType(), "Partition of the topic."),
    ("kafka_offset", LongType(), "Offset in the partition."),
)
PRIMITIVES: Mapping[str, IcebergType] = {
    "string": StringType(),
    "enum": StringType(),
    "int": IntegerType(),
    "long": LongType(),
    "boolean": BooleanType(),
    "double": DoubleType(),
    "bytes": BinaryType(),
    "date": DateType(),
    "timestamp-micros": TimestamptzType(),
}


def iceberg_schema(avro: Mapping[str, Any]) -> Schema:
    """The schema of the table that holds the records; field ids are counted from 1.

    Raises ValueError for a type that no dataset uses.
    """
    fields = avro["fields"]
    nested = count(len(fields) + len(KAFKA_COLUMNS) + 1)
    columns = [_column(number, field, lambda: next(nested)) for number, field in enumerate(fields, start=1)]
    for number, (name, kind, doc) in enumerate(KAFKA_COLUMNS, start=len(fields) + 1):
        # Another engine may insert rows that never were in Kafka, so these may be null.
        columns.append(NestedField(number, name, kind, required=False, doc=doc))
    return Schema(*columns)


def _column(number: int, field: Mapping[str, Any], nested_id: Callable[[], int]) -> NestedField:
    kind, required = _without_null(field["type"])
    return NestedField(
        number, field["name"], _iceberg_type(kind, nested_id), required=required, doc=field.get("doc")
    )


def _without_null(kind: Any) -> tuple[Any, bool]:
    if not isinstance(kind, list):
        return kind, True
    others = [branch for branch in kind if branch != "null"]
    if len(others) != 1:
        raise ValueError(f"no column type for the union {kind}")
    return others[0], len(others) == len(kind)


def _iceberg_type(kind: Any, nested_id: Callable[[], int]) -> IcebergType:
    name = kind if isinstance(kind, str) else kind.get("logicalType", kind["type"])
    if name == "decimal":
        return DecimalType(kind["precision"], kind["scale"])
    if name == "array":
        return ListType(nested_id(), _iceberg_type(kind["items"], nested_id), element_required=True)
    if name == "map":
        key_id, value_id = nested_id(), nested_id()
        value = _iceberg_type(kind["values"], nested_id)
        return MapType(key_id, StringType(), value_id, value, value_required=True)
    if name in PRIMITIVES:
        return PRIMITIVES[name]
    raise ValueError(f"no column type for {kind}")
