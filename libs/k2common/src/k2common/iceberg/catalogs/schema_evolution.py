"""The columns that a table has beyond its dataset's, and new ones that a writer's schema brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import IcebergType, ListType, MapType, NestedField

from k2common.columnar.arrow import SIMPLE
from k2common.columnar.evolution import Field, Unreadable
from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import AWAY, load_table
from k2common.iceberg.catalogs.schema import KAFKA_COLUMNS, PRIMITIVES, iceberg_schema

ATTEMPTS = 5
ARROW_TYPES: Mapping[str, Any] = {str(kind): SIMPLE[name] for name, kind in PRIMITIVES.items()} | {
    "decimal(28, 12)": SIMPLE["decimal"]
}


def more_columns(table: Table, dataset: Mapping[str, Any]) -> pa.Schema:
    """The table's columns that are neither fields of the Avro schema `dataset` nor its place in Kafka."""
    own = {entry["name"] for entry in dataset["fields"]} | {name for name, _, _ in KAFKA_COLUMNS}
    return pa.schema(
        [
            pa.field(column.name, _arrow(column.field_type))
            for column in table.schema().fields
            if column.name not in own
        ]
    )


def lacking(table: Table, fields: Sequence[Field]) -> list[Field]:
    """Those of the fields, which no dataset knows, for which the table has no column yet.

    Raises Unreadable when the table has a column of that name and of another type.
    """
    columns = {column.name: column for column in table.schema().fields}
    found: list[Field] = []
    for field in fields:
        column = columns.get(field["name"])
        if column is None:
            found.append(field)
        elif str(column.field_type) != str(_column(field).field_type):
            raise Unreadable(
                f"{column.name} is {column.field_type} in the table, {field['type'][1]} in the schema"
            )
    return found


def add_columns(catalog: Catalog, name: str, fields: Sequence[Field]) -> Table:
    """The table with a column, null where it was not written, for each field; another one may be faster.

    Raises TransientError when the catalogue does not answer, Unreadable as `lacking`.
    """
    for _ in range(ATTEMPTS):
        table = load_table(catalog, name)
        new = lacking(table, fields)
        if not new:
            return table
        try:
            with table.update_schema() as update:
                update.union_by_name(Schema(*map(_column, new)))
        except CommitFailedException:
            continue
        except AWAY as error:
            raise TransientError(f"{name} cannot take a column: {error}") from error
    raise TransientError(f"{name}: no column was added in {ATTEMPTS} attempts")


def _column(field: Field) -> NestedField:
    return iceberg_schema({"fields": [field]}).fields[0]


def _arrow(kind: IcebergType) -> Any:
    if isinstance(kind, ListType):
        return pa.list_(pa.field("item", _arrow(kind.element_type), nullable=False))
    if isinstance(kind, MapType):
        value: Any = pa.field("value", _arrow(kind.value_type), nullable=False)
        return pa.map_(pa.string(), value)
    return ARROW_TYPES[str(kind)]
