"""Rows take the place of a lost file only when the manifest and what is whole of the file agree with them."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.files.snapshot_writer import FilesGone
from k2common.iceberg.maintenance.repair import LostFiles, Proofs, find_lost, prove, replace_lost
from k2common.iceberg.versions.documents import head_version
from k2common.schemas.datasets import TRADES
from k2common.testing.iceberg import append_trades, folder_catalog

from tests.integration.damage.flips import data_files, flipped, missing

FLIPS = 24


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    found = open_catalog(folder_catalog(tmp_path))
    ensure_tables(found)
    for upload in ("U1", "U2"):
        append_trades(found, 30, upload=upload)
    return found


def rows_of(catalog: Catalog) -> pa.Table:
    return load_table(catalog, TRADES.table).scan().to_arrow()


def lost_files(catalog: Catalog) -> LostFiles:
    found = find_lost(catalog, TRADES.table)
    assert found is not None
    return found


def proofs_of(found: LostFiles, rows: pa.Table) -> Proofs:
    (group,) = found.groups()
    return prove(group, rows, table=found.table, order=TRADES.order)


def changed(rows: pa.Table, column: str, values: Any) -> pa.Table:
    at = rows.column_names.index(column)
    return rows.set_column(at, rows.schema.field(column), values)


def test_whatever_bit_has_turned_the_right_rows_are_proved_and_committed_once(catalog: Catalog) -> None:
    rows, version = rows_of(catalog), head_version(load_table(catalog, TRADES.table))
    random = Random(8)
    with_columns = 0
    for _ in range(FLIPS):
        with flipped(data_files(catalog, TRADES.table)[0], random):
            found = lost_files(catalog)
            (proved,) = proofs_of(found, rows).proved
            with_columns += "columns" in proved.proofs
    assert with_columns > FLIPS // 4
    path = data_files(catalog, TRADES.table)[0]
    path.unlink()
    found = lost_files(catalog)
    (proved,) = proofs_of(found, rows).proved
    assert "columns" not in proved.proofs
    replace_lost(catalog, found.table, proved)
    assert head_version(load_table(catalog, TRADES.table)) == version
    key = [("upload_id", "ascending"), ("line", "ascending")]
    assert rows_of(catalog).sort_by(key).equals(rows.sort_by(key))
    (late,) = proofs_of(found, rows).proved
    with pytest.raises(FilesGone):
        replace_lost(catalog, found.table, late)
    assert not lost_files(catalog).lost


def test_other_rows_are_never_proved(catalog: Catalog) -> None:
    rows = rows_of(catalog)
    path = data_files(catalog, TRADES.table)[0]
    with missing(path):
        found = lost_files(catalog)
        held = rows.filter(pa.array(found.lost[0].may_hold(rows)))
        assert held.num_rows == 30
        others = {
            "a row less": held.slice(1),
            "a row twice": pa.concat_tables([held, held.slice(0, 1)]),
            "a bound": changed(held, "price", pc.add(held["price"], 1).cast(held["price"].type)),
            "a null": changed(held, "sequence", pa.nulls(30, pa.int64())),
        }
        for name, wrong in others.items():
            proofs = proofs_of(found, wrong)
            assert (len(proofs.proved), len(proofs.unproved)) == (0, 1), name


def test_values_within_the_bounds_are_found_by_the_columns_that_are_whole(catalog: Catalog) -> None:
    """Values change places: the manifest cannot see it, the damaged file can."""
    rows = rows_of(catalog)
    path = data_files(catalog, TRADES.table)[0]
    whole = path.read_bytes()
    path.write_bytes(b"PARX" + whole[4:])
    found = lost_files(catalog)
    both = rows.filter(pa.array(found.lost[0].may_hold(rows)))
    for column in ("sequence", "line"):
        both = changed(both, column, pa.array(both[column].to_pylist()[::-1], both[column].type))
    (unproved,) = proofs_of(found, both).unproved
    assert "whole columns" in unproved.reason


def test_files_whose_rows_cannot_be_told_apart_are_proved_together(catalog: Catalog) -> None:
    rows = rows_of(catalog)
    for path in data_files(catalog, TRADES.table):
        path.unlink()
    found = lost_files(catalog)
    apart = proofs_of(found, rows)
    assert [len(one.lost) for one in apart.proved] == [1, 1]
    for one in found.lost:
        one.bounds.clear()  # type: ignore[attr-defined] # as of files without bounds
    (together,) = proofs_of(found, rows).proved
    assert len(together.lost) == 2
    replace_lost(catalog, found.table, together)
    assert lost_files(catalog).verified == 1
