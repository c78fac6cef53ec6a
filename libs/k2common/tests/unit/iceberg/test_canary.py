"""What the package uses of pyiceberg has the shape it was written for; what is private is named."""

import ast
import inspect
from importlib import metadata, resources

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import data_file_statistics_from_parquet_metadata
from pyiceberg.manifest import ManifestEntry, ManifestWriter, write_manifest, write_manifest_list
from pyiceberg.table.snapshots import SnapshotSummaryCollector, update_snapshot_summaries

MODULES = sorted(p.name for p in resources.files("k2common.iceberg").iterdir() if p.name.endswith(".py"))
# There is no public way to give the sessions of a REST catalogue a time-out, or a SQL catalogue a memory.
PRIVATE = {"_create_session", "_convert_orm_to_iceberg", "_load_file_io"}
SHAPES = {
    Catalog.commit_table: ["self", "table", "requirements", "updates"],
    Catalog._load_file_io: ["self", "properties", "location"],  # noqa: SLF001
    SqlCatalog._convert_orm_to_iceberg: ["self", "orm_table"],  # noqa: SLF001
    RestCatalog._create_session: ["self"],  # noqa: SLF001
    SnapshotSummaryCollector.add_file: ["self", "data_file", "schema", "partition_spec"],
    update_snapshot_summaries: ["summary", "previous_summary"],
    ManifestWriter.add_entry: ["self", "entry"],
    ManifestWriter.existing: ["self", "entry"],
    ManifestEntry.from_args: ["_table_format_version", "arguments"],
    data_file_statistics_from_parquet_metadata: [
        "parquet_metadata",
        "stats_columns",
        "parquet_column_mapping",
    ],
    write_manifest: ["format_version", "spec", "schema", "output_file", "snapshot_id", "avro_compression"],
    write_manifest_list: [
        "format_version",
        "output_file",
        "snapshot_id",
        "parent_snapshot_id",
        "sequence_number",
        "avro_compression",
    ],
}


def test_the_version_is_the_one_that_the_commit_was_proven_with() -> None:
    assert metadata.version("pyiceberg") == "0.12.0"


@pytest.mark.parametrize("function", SHAPES, ids=lambda function: function.__qualname__)
def test_a_function_takes_what_it_took(function: object) -> None:
    assert list(inspect.signature(function).parameters) == SHAPES[function]  # type: ignore[arg-type,index]


@pytest.mark.parametrize("module", MODULES)
def test_no_other_private_name_of_the_library_is_used(module: str) -> None:
    tree = ast.parse(resources.files("k2common.iceberg").joinpath(module).read_text("utf-8"))
    imported = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyiceberg")
        for alias in node.names
    ]
    reached = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and node.attr not in PRIVATE
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]
    assert [name for name in imported if name.startswith("_")] == []
    assert reached == []
