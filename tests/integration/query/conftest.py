"""Tables with what real ticks have: ties, equal rows, missing sides, several venues and uploads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from k2common.iceberg.catalogs.catalog import Catalog, open_catalog
from k2common.iceberg.catalogs.tables import ensure_tables
from k2common.schemas.datasets import QUOTES, TRADES
from k2common.testing.generator import quotes_csv, trades_csv
from k2common.testing.iceberg import folder_catalog
from k2common.testing.ticks import append, rows_of


def empty(home: Path) -> Catalog:
    """A catalogue with all tables and no row."""
    catalog = open_catalog(folder_catalog(home))
    ensure_tables(catalog)
    return catalog


def with_ties(rows: pa.Table) -> pa.Table:
    """Every third row at the time of the one before, every fifth without a sequence, some without ts_recv."""
    stamps = rows["ts_event_ns"].to_numpy().copy()
    stamps[2::3] = stamps[1::3][: len(stamps[2::3])]
    places = np.arange(len(stamps))
    changed = {
        "ts_event_ns": pa.array(stamps),
        "ts_event": pa.array(stamps // 1000).cast(pa.timestamp("us", "UTC")),
        "sequence": pa.array(rows["sequence"].to_numpy(), mask=places % 5 == 0),
        "ts_recv_ns": pa.array(stamps + places % 7, mask=places % 11 == 0),
    }
    for name, column in changed.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows


def fill(catalog: Catalog, *, uploads: int = 6, rows: int = 400) -> None:
    """Trades and quotes of four symbols over three days, in several uploads of two venues."""
    offset = 0
    for number in range(uploads):
        market = {"seed": number // 2, "symbols": 4, "days": 3, "venue": ("XTST", "XALT")[number % 2]}
        for dataset, text in ((TRADES, trades_csv(rows, **market)), (QUOTES, quotes_csv(rows, **market))):
            found = with_ties(rows_of(text, upload=f"U{number}", offset=offset))
            append(catalog, dataset, found)
        offset += found.num_rows


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    made = empty(tmp_path_factory.mktemp("warehouse"))
    fill(made)
    return made
