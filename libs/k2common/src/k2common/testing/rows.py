"""Rows of any dataset from a few values, committed as a sink would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from k2common.columnar.arrow import arrow_schema_of
from k2common.domain.time import parse_time, to_datetime
from k2common.iceberg.catalogs.catalog import Catalog, load_table
from k2common.iceberg.commits.commit import CommitResult, Proposal, commit
from k2common.iceberg.files.data_files import write
from k2common.iceberg.versions.documents import head_version
from k2common.schemas.datasets import Dataset
from k2common.testing.iceberg import START, first_version
from k2common.versions.version import Version

DEFAULTS: Mapping[str, Any] = {
    "venue": "XASX",
    "source": "test",
    "asset_class": "equity",
    "currency": "AUD",
    "symbol": "BHP",
    "side": "unknown",
    "conditions": [],
    "flags": 0,
    "attributes": [],
    "upload_id": "U1",
    "ts_ingest": START,
    "timeframe": "1Min",
    "instrument_id": "1",
    "valid_from": date(2000, 1, 1),
}


def rows_of(dataset: Dataset, given: Sequence[Mapping[str, Any]], *, first_offset: int = 0) -> pa.Table:
    """A table as the sink has it before it sorts; what is not given has a default.

    `ts_event` may be a text or nanoseconds; prices and sizes may be text. Lines count from 1.
    """
    schema = arrow_schema_of(dataset.schema)
    rows = [_row(dict(values), schema, line) for line, values in enumerate(given, start=1)]
    table = pa.Table.from_pylist(rows, schema=schema)
    count = len(rows)
    places = {
        "kafka_epoch": pa.array([0] * count, pa.int32()),
        "kafka_partition": pa.array([0] * count, pa.int32()),
        "kafka_offset": pa.array(range(first_offset, first_offset + count), pa.int64()),
    }
    for name, column in places.items():
        table = table.append_column(name, column)
    return table


def append_rows(
    catalog: Catalog, dataset: Dataset, given: Sequence[Mapping[str, Any]], *, now: datetime = START
) -> CommitResult:
    """Commit the rows, in the order in which they are given, as the next version of the table."""
    head = head_version(load_table(catalog, dataset.table))
    expected = None if head is None else head.offsets.get(0)
    rows = rows_of(dataset, given, first_offset=expected or 0)

    def change(version: Version | None) -> Version:
        known = version or first_version(dataset.table, now=now)
        return known.successor(now=now, offsets={0: (expected or 0) + rows.num_rows}, hidden=known.hidden)

    proposal = Proposal(
        table=dataset.table,
        epoch=0,
        change=change,
        expected={0: expected},
        files=write(rows, table=load_table(catalog, dataset.table)),
        origin={"k2.kafka-cluster": "test"},
    )
    return commit(catalog, proposal)


def _row(values: dict[str, Any], schema: pa.Schema, line: int) -> Mapping[str, Any]:
    row = {name: values.get(name, DEFAULTS.get(name)) for name in schema.names}
    row["line"] = values.get("line", line)
    if "ts_event" in row:
        given = values["ts_event"]
        ns = given if isinstance(given, int) else parse_time(given)
        row |= {"ts_event_ns": ns, "ts_event": to_datetime(ns)}
        row["trading_date"] = values.get("trading_date", to_datetime(ns).date())
    for field in schema:
        value = row[field.name]
        if pa.types.is_decimal(field.type) and value is not None:
            row[field.name] = Decimal(value)
    return row
