"""A catalogue in a folder, rows with places in Kafka, and a sink reduced to its commits."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from k2common.errors import TransientError
from k2common.iceberg.catalogs.catalog import Catalog, load_table, open_catalog
from k2common.iceberg.commits.commit import CommitResult, Proposal, commit
from k2common.iceberg.commits.expiry import Retention
from k2common.iceberg.files.data_files import write
from k2common.iceberg.versions.documents import head_version
from k2common.schemas.datasets import TRADES, VERSIONS
from k2common.settings.iceberg import IcebergSettings
from k2common.versions.hidden import HiddenUpload
from k2common.versions.version import Version

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000
DAY_US = 86_400_000_000
DECIMAL = pa.decimal128(28, 12)


def folder_catalog(home: Path) -> IcebergSettings:
    """Settings of a catalogue on SQLite with its warehouse, both in `home`."""
    return IcebergSettings(catalog_uri=f"sqlite:///{home}/catalog.db?timeout=30", warehouse=f"file://{home}")


def trade_rows(
    first: int,
    count: int,
    *,
    partition: int = 0,
    upload: str = "U1",
    symbol: str = "ABC",
    days: int = 1,
    epoch: int = 0,
) -> pa.Table:
    """Trades with the offsets `first` to `first + count`, spread over `days` days, in file order."""
    stamps = START_US + np.arange(count) % days * DAY_US + np.arange(count) * 1000
    micros = pa.timestamp("us", "UTC")

    def constant(value: Any, kind: Any) -> Any:
        return pa.repeat(pa.scalar(value, kind), count)

    columns: dict[str, Any] = {
        "venue": constant("XNAS", pa.string()),
        "source": constant("test", pa.string()),
        "asset_class": constant("equity", pa.string()),
        "currency": constant("USD", pa.string()),
        "upload_id": constant(upload, pa.string()),
        "ts_ingest": constant(START, micros),
        "symbol": constant(symbol, pa.string()),
        "trading_date": constant(START.date(), pa.date32()),
        "side": constant("buy", pa.string()),
        "conditions": pa.array([[]] * count, pa.list_(pa.string())),
        "flags": constant(0, pa.int32()),
        "attributes": pa.array([[]] * count, pa.map_(pa.string(), pa.string())),
        "ts_event": pa.array(stamps).cast(micros),
        "ts_event_ns": pa.array(stamps * 1000),
        "ts_recv_ns": constant(None, pa.int64()),
        "sequence": pa.array(np.arange(first, first + count)),
        "price": constant(Decimal("1.5"), DECIMAL),
        "size": constant(Decimal(100), DECIMAL),
        "trade_id": constant(None, pa.string()),
        "line": pa.array(np.arange(2, count + 2)),
        "kafka_epoch": constant(epoch, pa.int32()),
        "kafka_partition": constant(partition, pa.int32()),
        "kafka_offset": pa.array(np.arange(first, first + count)),
    }
    return pa.table(columns)


def first_version(table: str, *, now: datetime = START) -> Version:
    """What comes before the first commit: nothing read, nothing shown."""
    return Version(table=table, number=0, committed_at=now, schema_id=0, epoch=0, offsets={})


def trades_proposal(
    catalog: Catalog,
    rows: pa.Table,
    *,
    expected: int | None,
    partition: int = 0,
    hidden: dict[str, HiddenUpload] | None = None,
    now: datetime = START,
) -> Proposal:
    """Append the rows of one partition, or only move its visibility when there are none."""
    end = (expected or 0) + rows.num_rows

    def change(head: Version | None) -> Version:
        known = head or first_version(TRADES.table, now=now)
        shown = known.hidden if hidden is None else hidden
        return known.successor(now=now, offsets={partition: end} if rows.num_rows else {}, hidden=shown)

    return Proposal(
        table=TRADES.table,
        epoch=0,
        change=change,
        expected={partition: expected} if rows.num_rows else {},
        files=write(rows, table=load_table(catalog, TRADES.table)),
        origin={"k2.kafka-cluster": "test"},
    )


def append_trades(
    catalog: Catalog,
    count: int,
    *,
    partition: int = 0,
    upload: str = "U1",
    days: int = 1,
    retention: Retention | None = None,
    hidden: dict[str, HiddenUpload] | None = None,
    now: datetime = START,
) -> CommitResult:
    """One sink step: read the table's offset, write that many rows from there, commit."""
    head = head_version(load_table(catalog, TRADES.table))
    expected = None if head is None else head.offsets.get(partition)
    rows = trade_rows(expected or 0, count, partition=partition, upload=upload, days=days)
    proposal = trades_proposal(catalog, rows, expected=expected, partition=partition, hidden=hidden, now=now)
    return commit(catalog, proposal, retention=retention)


def record_version(
    catalog: Catalog, result: CommitResult, *, retention: Retention | None = None
) -> CommitResult:
    """Put a commit into ingest.versions, as the sink does from its topic."""
    head = head_version(load_table(catalog, VERSIONS.table))
    offset = None if head is None else head.offsets.get(0)
    at = offset or 0
    columns = {
        "table": [result.version.table],
        "number": [result.version.number],
        "committed_at": pa.array([result.version.committed_at], pa.timestamp("us", "UTC")),
        "snapshot_id": [result.snapshot_id],
        "metadata_location": [result.metadata_location],
        "document": [result.version.to_json()],
        "rows": pa.array([None if result.totals is None else result.totals.rows], pa.int64()),
        "rows_removed": pa.array([None if result.totals is None else result.totals.removed], pa.int64()),
        "kafka_epoch": pa.array([0], pa.int32()),
        "kafka_partition": pa.array([0], pa.int32()),
        "kafka_offset": pa.array([at], pa.int64()),
    }

    def change(known: Version | None) -> Version:
        before = known or first_version(VERSIONS.table)
        return before.successor(now=START, offsets={0: at + 1}, hidden={})

    files = write(pa.table(columns), table=load_table(catalog, VERSIONS.table))
    proposal = Proposal(table=VERSIONS.table, epoch=0, expected={0: offset}, files=files, change=change)
    return commit(catalog, proposal, retention=retention)


def sink_in_process(home: str, *, commits: int, rows: int = 7, partition: int = 0) -> None:
    """What a sink replica does until it is killed: commit, and start again from the table when fenced."""
    catalog = open_catalog(folder_catalog(Path(home)))
    done = 0
    while done < commits:
        try:
            append_trades(catalog, rows, partition=partition, retention=KEEP_FEW)
        except TransientError:
            continue
        done += 1


KEEP_FEW = Retention(live=5, recorded=lambda _: True)
