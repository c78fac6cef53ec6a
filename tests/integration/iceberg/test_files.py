"""A data file says what it holds, is small, and reads back as it was written."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.files.data_files import MAX_UPLOADS_IN_FOOTER, write
from k2common.iceberg.reading.plan import Footer, read_footer
from k2common.schemas.datasets import DATASETS, TRADES
from k2common.testing.iceberg import append_trades, folder_catalog, trade_rows
from k2common.versions.hidden import OffsetRange
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    opened = open_catalog(folder_catalog(tmp_path))
    ensure_tables(opened)
    return opened


@pytest.fixture
def trades(catalog: Catalog) -> Table:
    return load_table(catalog, TRADES.table)


def test_ensuring_the_tables_again_changes_nothing(catalog: Catalog) -> None:
    def locations() -> list[str]:
        return [load_table(catalog, d.table).metadata_location for d in DATASETS.values()]

    before = locations()
    ensure_tables(catalog)
    assert locations() == before


def test_a_new_column_joins_the_table(catalog: Catalog, trades: Table) -> None:
    with trades.update_schema() as update:
        update.delete_column("trade_id")

    ensure_tables(catalog)
    assert "trade_id" in load_table(catalog, TRADES.table).schema().column_names


def test_rows_come_back_as_they_were_written(catalog: Catalog) -> None:
    append_trades(catalog, 100)

    read = load_table(catalog, TRADES.table).scan().to_arrow()
    assert read.to_pylist() == trade_rows(0, 100).to_pylist()


def test_dictionaries_come_back_as_plain_strings(trades: Table) -> None:
    rows = trade_rows(0, 10)
    rows = rows.set_column(0, "venue", rows["venue"].dictionary_encode())

    (file,) = write(rows, table=trades)
    read = pq.ParquetFile(file.file_path.removeprefix("file://")).read()
    assert read.schema.field("venue").type == pa.string()


def test_each_day_has_one_file_with_its_rows_in_order(trades: Table) -> None:
    files = write(trade_rows(0, 10, days=3), table=trades)

    assert [file.record_count for file in files] == [4, 3, 3]
    assert [file.partition[0] for file in files] == [20514, 20515, 20516]
    first = pq.ParquetFile(files[0].file_path.removeprefix("file://")).read()
    assert first["kafka_offset"].to_pylist() == [0, 3, 6, 9]


def test_the_footer_names_offsets_uploads_and_columns(trades: Table) -> None:
    rows = pa.concat_tables([trade_rows(5, 10, upload="A"), trade_rows(0, 3, partition=1, upload="B")])

    (file,) = write(rows, table=trades)
    assert read_footer(file.file_path, io=trades.io) == Footer(
        ranges=(
            OffsetRange(epoch=0, partition=0, first=5, end=15),
            OffsetRange(epoch=0, partition=1, first=0, end=3),
        ),
        uploads=frozenset({"A", "B"}),
        columns=frozenset(rows.column_names),
    )


def test_many_uploads_are_not_named(trades: Table) -> None:
    rows = pa.concat_tables([trade_rows(n, 1, upload=f"U{n}") for n in range(MAX_UPLOADS_IN_FOOTER + 1)])

    (file,) = write(rows, table=trades)
    assert read_footer(file.file_path, io=trades.io).uploads is None


def test_row_groups_are_small_and_encodings_chosen(trades: Table) -> None:
    (file,) = write(trade_rows(0, 40_000), table=trades)

    metadata = pq.read_metadata(file.file_path.removeprefix("file://"))
    columns = {
        metadata.row_group(0).column(n).path_in_schema: metadata.row_group(0).column(n)
        for n in range(metadata.num_columns)
    }
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [32_768, 7_232]
    assert "DELTA_BINARY_PACKED" in columns["kafka_offset"].encodings
    assert "RLE_DICTIONARY" in columns["symbol"].encodings
    assert not columns["trade_id"].has_dictionary_page
    assert {column.compression for column in columns.values()} == {"ZSTD"}


def test_no_rows_make_no_file(trades: Table) -> None:
    assert write(trade_rows(0, 0), table=trades) == []
