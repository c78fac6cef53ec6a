"""Ten million generated trades in a warehouse of their own, written once through the commit kernel.

Each day comes as two uploads in two commits and is compacted to one file afterwards, as a sink does; so half
of the versions end in the middle of a file.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from k2common.columnar.sorting import sorted_rows
from k2common.iceberg.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.commit import Proposal, commit
from k2common.iceberg.compaction import compact
from k2common.iceberg.expiry import Retention
from k2common.iceberg.files import write
from k2common.iceberg.tables import ensure_tables
from k2common.schemas.datasets import TRADES
from k2common.testing.generator import FIRST_DAY, trades_csv
from k2common.testing.iceberg import DECIMAL, first_version, folder_catalog
from k2common.versions import Version

SYMBOLS = 500
HALF = 0.5
MICROS = pa.timestamp("us", "UTC")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
DONE = "done"


def warehouse(home: Path, *, rows: int, days: int) -> Catalog:
    """The catalogue of a warehouse with so many trades, made if it is not there yet."""
    catalog = open_catalog(folder_catalog(home))
    if (home / DONE).exists():
        return catalog
    ensure_tables(catalog)
    offset = 0
    for day in range(days):
        offset = _day(catalog, day, rows // days, offset)
    compact(catalog, TRADES.table, order=TRADES.order, max_rows=rows, retention=_KEEP, fan_in=2)
    (home / DONE).touch()
    return catalog


_KEEP = Retention(live=5, recorded=lambda _: True)


def _day(catalog: Catalog, day: int, rows: int, offset: int) -> int:
    at = FIRST_DAY + timedelta(days=day)
    found = _typed(trades_csv(rows, seed=day, symbols=SYMBOLS, day=at), offset)
    cut = int(rows * HALF)
    for number, part in enumerate((found.slice(0, cut), found.slice(cut))):
        upload = pa.repeat(f"01BENCH{day:04}{number}", part.num_rows)
        column = part.schema.get_field_index("upload_id")
        _append(catalog, part.set_column(column, "upload_id", upload), offset)
        offset += part.num_rows
    return offset


def _append(catalog: Catalog, rows: pa.Table, offset: int) -> None:
    def change(head: Version | None) -> Version:
        known = head or first_version(TRADES.table, now=NOW)
        return known.successor(now=NOW, offsets={0: offset + rows.num_rows}, hidden={})

    proposal = Proposal(
        table=TRADES.table,
        epoch=0,
        change=change,
        expected={0: offset or None},
        files=write(sorted_rows(rows, TRADES.order), table=load_table(catalog, TRADES.table)),
    )
    commit(catalog, proposal, retention=_KEEP)


def _typed(text: bytes, offset: int) -> pa.Table:
    """The generated file as the loader would publish it."""
    kinds = {"price": DECIMAL, "size": DECIMAL, "conditions": pa.string(), "trade_id": pa.string()}
    options = pacsv.ConvertOptions(column_types=kinds, strings_can_be_null=False)
    given = pacsv.read_csv(io.BytesIO(text), convert_options=options)
    count = given.num_rows
    stamps = given["ts_event_ns"]
    micros = pc.divide(stamps, 1000).cast(MICROS)
    split = pc.split_pattern(given["conditions"], " ")
    none = pa.array([[]] * count, pa.map_(pa.string(), pa.string()))
    columns = {
        "venue": given["venue"],
        "source": pa.repeat("bench", count),
        "asset_class": pa.repeat("equity", count),
        "currency": pa.repeat("USD", count),
        "upload_id": pa.repeat("", count),
        "ts_ingest": pa.repeat(pa.scalar(NOW, MICROS), count),
        "symbol": given["symbol"],
        "trading_date": micros.cast(pa.date32()),
        "side": given["side"],
        "conditions": split,
        "flags": pa.repeat(pa.scalar(0, pa.int32()), count),
        "attributes": none,
        "ts_event": micros,
        "ts_event_ns": stamps,
        "ts_recv_ns": given["ts_recv_ns"],
        "sequence": given["sequence"],
        "price": given["price"],
        "size": given["size"],
        "trade_id": given["trade_id"],
        "line": pa.array(np.arange(2, count + 2)),
        "kafka_epoch": pa.repeat(pa.scalar(0, pa.int32()), count),
        "kafka_partition": pa.repeat(pa.scalar(0, pa.int32()), count),
        "kafka_offset": pa.array(np.arange(offset, offset + count)),
    }
    return pa.table(columns)
