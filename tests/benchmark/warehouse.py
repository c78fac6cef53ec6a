"""Ten million generated trades in a warehouse of their own, written once through the commit kernel.

Each day comes as two uploads in two commits and is compacted to one file afterwards, as a sink does; so half
of the versions end in the middle of a file.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from k2common.iceberg.catalogs.catalog import Catalog, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.maintenance.compaction import compact
from k2common.schemas.datasets import TRADES
from k2common.testing.generator import FIRST_DAY, trades_csv
from k2common.testing.iceberg import folder_catalog, record_version
from k2common.testing.ticks import append, rows_of

SYMBOLS = 500
KEEP_FEW = Retention(live=5, recorded=lambda _: True)
DONE = "done"


def warehouse(home: Path, *, rows: int, days: int) -> Catalog:
    """The catalogue of a warehouse with so many trades, made if it is not there yet."""
    catalog = open_catalog(folder_catalog(home))
    if (home / DONE).exists():
        return catalog
    ensure_tables(catalog)
    for day in range(days):
        _add_day(catalog, day, rows // days)
    compact(catalog, TRADES.table, order=TRADES.order, max_rows=rows, retention=KEEP_FEW, fan_in=2)
    (home / DONE).touch()
    return catalog


def _add_day(catalog: Catalog, day: int, rows: int) -> None:
    text = trades_csv(rows, seed=day, symbols=SYMBOLS, day=FIRST_DAY + timedelta(days=day))
    found = rows_of(text, upload="", source="bench", offset=day * rows)
    half = rows // 2
    for number, part in enumerate((found.slice(0, half), found.slice(half))):
        upload = pa.repeat(f"01BENCH{day:04}{number}", part.num_rows)
        column = part.schema.get_field_index("upload_id")
        rows_of_half = part.set_column(column, "upload_id", upload)
        record_version(catalog, append(catalog, TRADES, rows_of_half, retention=KEEP_FEW))
