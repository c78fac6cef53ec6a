"""JSON Schemas of rows, from the Arrow schemas that the rows are written by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

JsonSchema = Mapping[str, Any]


def object_schema(
    properties: Mapping[str, JsonSchema], *, closed: bool = True, description: str = ""
) -> JsonSchema:
    """Return the schema of an object that has all these properties, and no others where it is `closed`."""
    found = {"type": "object", "required": list(properties), "properties": dict(properties)}
    if description:
        found["description"] = description
    return {**found, "additionalProperties": False} if closed else found


def row_schema(schema: pa.Schema, docs: Mapping[str, str], *, attributes: bool = False) -> JsonSchema:
    """Return the schema of a row in JSON; any column may be left out by `fields=`.

    `attributes` allows the vendor's own columns, as `attributes.<name>`.
    """
    properties = {}
    for field in schema:
        shape = dict(field_schema(field))
        if field.name in docs:
            shape["description"] = docs[field.name]
        properties[field.name] = shape
    more: Any = {"type": ["string", "null"]} if attributes else False
    return {"type": "object", "properties": properties, "additionalProperties": more}


def field_schema(field: pa.Field[Any]) -> JsonSchema:
    """Return the schema of a column's value in JSON, as `k2common.engine.text.exact` writes it."""
    shape = dict(_value(field.name, field.type))
    if field.nullable:
        kinds = shape["type"] if isinstance(shape["type"], list) else [shape["type"]]
        shape["type"] = [*kinds, "null"]
    return shape


def _value(name: str, kind: Any) -> JsonSchema:
    if pa.types.is_decimal(kind):
        # Text by default; a number with price_format=number.
        return {"type": ["string", "number"]}
    if pa.types.is_timestamp(kind) or name.endswith("_ns"):
        return {"type": "string"}
    if pa.types.is_date(kind):
        return {"type": "string", "format": "date"}
    if pa.types.is_int64(kind):
        # Text where JavaScript's numbers end.
        return {"type": ["integer", "string"]}
    if pa.types.is_integer(kind):
        return {"type": "integer"}
    if pa.types.is_boolean(kind):
        return {"type": "boolean"}
    if pa.types.is_floating(kind):
        return {"type": "number"}
    if pa.types.is_list(kind):
        return {"type": "array", "items": _value("", kind.value_type)}
    if pa.types.is_map(kind):
        return {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
    return {"type": "string"}
