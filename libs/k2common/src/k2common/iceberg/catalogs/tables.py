"""Every table exists with its columns and partitions; doing it again changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform

from k2common.errors import SetupError, TransientError
from k2common.iceberg.catalogs.catalog import AWAY, load_table
from k2common.iceberg.catalogs.schema import iceberg_schema
from k2common.schemas.datasets import TABLES, Dataset, OwnTable, avro_schema

PROPERTIES: dict[str, Any] = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "1",
    "write.parquet.row-group-limit": "32768",
    # A commit writes one metadata file; a slow reader may still open any of the last hundred.
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}
FIRST_PARTITION_FIELD_ID = 1000


def ensure_tables(catalog: Catalog, datasets: Iterable[Dataset | OwnTable] = tuple(TABLES.values())) -> None:
    """Create the tables that are missing and add the columns that a newer schema brought.

    Raises SetupError when a column's type changed, TransientError when the catalogue does not answer.
    """
    try:
        for dataset in datasets:
            ensure_table(catalog, dataset)
    except (CommitFailedException, *AWAY) as error:
        raise TransientError(f"the tables could not be ensured: {error}") from error


def ensure_table(catalog: Catalog, dataset: Dataset | OwnTable) -> Table:
    """One dataset's table, created or widened where needed."""
    schema = iceberg_schema(avro_schema(dataset.schema))
    catalog.create_namespace_if_not_exists(dataset.table.partition(".")[0])
    if not catalog.table_exists(dataset.table):
        spec = _partition_spec(schema, dataset.partition_by)
        try:
            return catalog.create_table(dataset.table, schema, partition_spec=spec, properties=PROPERTIES)
        except TableAlreadyExistsError:
            pass  # another process was faster
    return _widen(load_table(catalog, dataset.table), schema)


def _partition_spec(schema: Schema, column: str | None) -> PartitionSpec:
    if column is None:
        return UNPARTITIONED_PARTITION_SPEC
    return PartitionSpec(
        PartitionField(
            source_id=schema.find_field(column).field_id,
            field_id=FIRST_PARTITION_FIELD_ID,
            transform=DayTransform(),
            name=f"{column}_day",
        )
    )


def _widen(table: Table, schema: Schema) -> Table:
    if set(schema.column_names) <= set(table.schema().column_names):
        return table
    try:
        with table.update_schema() as update:
            update.union_by_name(schema)
    except ValueError as error:
        raise SetupError(
            f"{'.'.join(table.name())} cannot take the columns of its schema: {error}"
        ) from error
    return table
