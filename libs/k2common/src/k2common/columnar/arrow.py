"""The Arrow schema of an Avro record schema: the one form of a dataset's rows between the parts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias

import pyarrow as pa

from k2common.schemas.datasets import avro_schema

Column: TypeAlias = Any
"""A pa.Array. The stubs lack much of what binary and nested ones can do."""

DECIMAL = pa.decimal128(28, 12)

SIMPLE: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "bytes": pa.binary(),
    "int": pa.int32(),
    "long": pa.int64(),
    "boolean": pa.bool_(),
    "double": pa.float64(),
    "enum": pa.string(),
    "date": pa.date32(),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "decimal": DECIMAL,
}


def arrow_schema(avro: Mapping[str, Any]) -> pa.Schema:
    """One Arrow field per Avro field, in order; an Avro union with null makes it nullable.

    Raises KeyError for an Avro type that no dataset uses.
    """
    return pa.schema([_field(entry) for entry in avro["fields"]])


@cache
def arrow_schema_of(name: str) -> pa.Schema:
    """The Arrow schema of our Avro schema `name`."""
    return arrow_schema(avro_schema(name))


def unwrap(avro_type: Any) -> tuple[Any, bool]:
    """The type behind a union with null, and whether there was one; null is the first branch."""
    if isinstance(avro_type, list):
        null, inner = avro_type
        if null != "null":
            raise KeyError(f"{avro_type}: a union is null and one type")
        return inner, True
    return avro_type, False


def type_name(avro_type: Any) -> str:
    """The logical type's name where there is one, else the type's."""
    if isinstance(avro_type, str):
        return avro_type
    name: str = avro_type.get("logicalType", avro_type["type"])
    return name


def _field(entry: Mapping[str, Any]) -> pa.Field[Any]:
    inner, nullable = unwrap(entry["type"])
    return pa.field(entry["name"], _type(inner), nullable=nullable)


def _type(avro_type: Any) -> Any:
    name = type_name(avro_type)
    if name == "array":
        return pa.list_(pa.field("item", _type(avro_type["items"]), nullable=False))
    if name == "map":
        value: Any = pa.field("value", _type(avro_type["values"]), nullable=False)
        return pa.map_(pa.string(), value)
    if name == "record":
        return pa.struct([_field(entry) for entry in avro_type["fields"]])
    return SIMPLE[name]
