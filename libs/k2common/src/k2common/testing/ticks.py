"""Generated files as rows of the tables, and commits of them, for tests and benchmarks that need no fleet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from k2common.columnar.arrow import DECIMAL
from k2common.columnar.sorting import sorted_rows
from k2common.iceberg.catalogs.catalog import Catalog, load_table
from k2common.iceberg.commits.commit import CommitResult, Proposal, commit
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.files.data_files import write
from k2common.iceberg.maintenance.rewrite import live_files
from k2common.iceberg.versions.documents import head_version
from k2common.schemas.datasets import Dataset
from k2common.testing.iceberg import first_version
from k2common.versions.version import Version

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MICROS = pa.timestamp("us", "UTC")
DECIMALS = ("price", "size", "bid_price", "bid_size", "ask_price", "ask_size")
TEXTS = ("conditions", "trade_id", "quote_id")


def rows_of(text: bytes, *, upload: str, source: str = "test", offset: int = 0) -> pa.Table:
    """A file of the generator as the loader would publish it, in partition 0 from `offset` on."""
    kinds: dict[str, Any] = dict.fromkeys(DECIMALS, DECIMAL) | {name: pa.string() for name in TEXTS}
    # An empty side of a quote is null, an empty text is none.
    options = pacsv.ConvertOptions(column_types=kinds, strings_can_be_null=False)
    given = pacsv.read_csv(io.BytesIO(text), convert_options=options)
    count = given.num_rows
    micros: Any = pc.cast(pc.divide(given["ts_event_ns"], 1000), MICROS)
    columns: dict[str, Any] = {
        "source": pa.repeat(source, count),
        "asset_class": pa.repeat("equity", count),
        "upload_id": pa.repeat(upload, count),
        "ts_ingest": pa.repeat(pa.scalar(NOW, MICROS), count),
        "trading_date": pc.cast(micros, pa.date32()),
        "conditions": pa.array([[]] * count, pa.list_(pa.string())),
        "flags": pa.repeat(pa.scalar(0, pa.int32()), count),
        "attributes": pa.array([[]] * count, pa.map_(pa.string(), pa.string())),
        "ts_event": micros,
        "ts_recv_ns": pa.nulls(count, pa.int64()),
        "line": pa.array(np.arange(2, count + 2)),
        "kafka_epoch": pa.repeat(pa.scalar(0, pa.int32()), count),
        "kafka_partition": pa.repeat(pa.scalar(0, pa.int32()), count),
        "kafka_offset": pa.array(np.arange(offset, offset + count)),
    }
    columns |= {name: given[name] for name in given.column_names if name != "conditions"}
    if "conditions" in given.column_names:
        columns["conditions"] = pc.split_pattern(given["conditions"], " ")
    return pa.table(columns)


def append(
    catalog: Catalog,
    dataset: Dataset,
    rows: pa.Table,
    *,
    now: datetime = NOW,
    retention: Retention | None = None,
) -> CommitResult:
    """One commit of a sink: the rows, which begin at the table's offset of partition 0."""
    table = load_table(catalog, dataset.table)
    head = head_version(table)
    expected = None if head is None else head.offsets.get(0)
    end = (expected or 0) + rows.num_rows

    def change(known: Version | None) -> Version:
        before = known or first_version(dataset.table, now=now)
        return before.successor(now=now, offsets={0: end}, hidden=before.hidden)

    files = write(sorted_rows(rows, dataset.order), table=table)
    proposal = Proposal(table=dataset.table, epoch=0, change=change, expected={0: expected}, files=files)
    return commit(catalog, proposal, retention=retention)


def rearranged(catalog: Catalog, dataset: Dataset, pieces: Sequence[pa.Table]) -> CommitResult:
    """Put the pieces, in their order and unsorted, in the place of all files; the version stays the same."""
    table = load_table(catalog, dataset.table)
    head = head_version(table)
    if head is None:
        raise ValueError(f"{dataset.table} has no version")
    proposal = Proposal(
        table=dataset.table,
        epoch=0,
        change=lambda _: head,
        files=[file for piece in pieces for file in write(piece, table=table)],
        removed=frozenset(file.file_path for file in live_files(table)),
        same_version=True,
    )
    return commit(catalog, proposal)
