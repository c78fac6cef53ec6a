"""What a dataset has: its columns, its span, and what a query of it would touch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from k2common.domain.time import format_datetime, format_time
from k2common.engine.scan import Filter, Parameters, Scan, rows_sql
from k2common.engine.text import columns_of
from k2common.iceberg.files.manifest_index import NO_DAY
from k2common.iceberg.reading.plan import Plan
from k2common.iceberg.reading.reader import TableField
from k2common.query.queries import Queries
from k2common.schemas.datasets import Dataset, avro_schema
from k2common.versions.version import Version

EPOCH_DAY = date(1970, 1, 1)
MAX_FOOTERS = 1_000
"""An estimate of more files than this is by file and not by row group."""


def entry(dataset: Dataset, version: Version | None, plan: Plan | None) -> Mapping[str, Any]:
    """A dataset in the catalogue; figures are those of its files."""
    files = [] if plan is None else [plan.files[path] for path in plan.paths]
    days = [file.day for file in files if file.day != NO_DAY]
    return {
        "dataset": dataset.name,
        "table": dataset.table,
        "description": avro_schema(dataset.topic.schema).get("doc"),
        "version": None if version is None else version.number,
        "committed_at": None if version is None else format_datetime(version.committed_at),
        "files": len(files),
        "rows": sum(file.rows for file in files),
        "rows_exact": plan is None or not plan.straddling,
        "bytes": sum(file.bytes for file in files),
        "first_day": _day(min(days, default=None)),
        "last_day": _day(max(days, default=None)),
    }


def fields(dataset: Dataset, known: Sequence[TableField]) -> Sequence[Mapping[str, Any]]:
    """The columns that every format gives, with their documentation."""
    docs = {field["name"]: field.get("doc") for field in avro_schema(dataset.topic.schema)["fields"]}
    given = set(columns_of(dataset))
    return [
        {"name": field.name, "type": field.type, "nullable": not field.required, "doc": docs[field.name]}
        for field in known
        if field.name in given
    ]


async def span(queries: Queries, scan: Scan | None, dataset: Dataset, wanted: Filter) -> Mapping[str, Any]:
    """Rows, and the first and last of the dataset's times and dates; null where there is none."""
    names = [name for name in SPANS if name in columns_of(dataset)]
    if scan is None:
        return {"dataset": dataset.name, "rows": 0, **dict.fromkeys(names)}
    parameters = Parameters()
    rows = rows_sql([scan], wanted, parameters)
    ends = ", ".join(f"min({name}) AS first_{name}, max({name}) AS last_{name}" for name in names)
    sql = f"SELECT count(*) AS rows, count(DISTINCT symbol) AS symbols, {ends} FROM ({rows})"
    (found,) = (await queries.table(sql, parameters.values)).to_pylist()
    spans = {
        name: None
        if found[f"first_{name}"] is None
        else {"first": _moment(found[f"first_{name}"]), "last": _moment(found[f"last_{name}"])}
        for name in names
    }
    return {"dataset": dataset.name, "rows": found["rows"], "symbols": found["symbols"], **spans}


SPANS = ("ts_event_ns", "trading_date", "ex_date", "valid_from", "valid_to")


async def estimate(queries: Queries, plan: Plan | None, wanted: Filter) -> Mapping[str, Any]:
    """What a query would read: files, row groups, rows and bytes, each at most that many."""
    if plan is None or not plan.paths:
        return {"files": 0, "row_groups": 0, "rows": 0, "bytes": 0, "basis": "row_groups"}
    if len(plan.paths) > MAX_FOOTERS:
        files = [plan.files[path] for path in plan.paths]
        size = sum(file.bytes for file in files)
        return {"files": len(files), "row_groups": None, "rows": plan.rows, "bytes": size, "basis": "files"}
    parameters = Parameters()
    sql = _groups_sql(plan, wanted, parameters)
    (found,) = (await queries.table(sql, parameters.values)).to_pylist()
    return {**{name: int(value or 0) for name, value in found.items()}, "basis": "row_groups"}


def _groups_sql(plan: Plan, wanted: Filter, parameters: Parameters) -> str:
    conditions = ["true"]
    if wanted.symbols:
        symbols = f"(SELECT unnest({parameters.bind(list(wanted.symbols))}) AS symbol)"
        inside = f"EXISTS (FROM {symbols} AS s WHERE s.symbol BETWEEN first_symbol AND last_symbol)"
        conditions.append(f"(first_symbol IS NULL OR {inside})")
    if wanted.start_ns is not None:
        conditions.append(f"coalesce(last_ns >= {parameters.bind(wanted.start_ns)}, true)")
    if wanted.end_ns is not None:
        conditions.append(f"coalesce(first_ns < {parameters.bind(wanted.end_ns)}, true)")
    return f"""
        SELECT count(DISTINCT file_name) AS files, count(*) AS row_groups, sum(rows) AS rows,
            sum(size) AS bytes
        FROM (
            SELECT file_name, row_group_id, max(row_group_num_rows) AS rows,
                sum(total_compressed_size) AS size,
                max(stats_min_value) FILTER (path_in_schema = 'symbol') AS first_symbol,
                max(stats_max_value) FILTER (path_in_schema = 'symbol') AS last_symbol,
                max(TRY_CAST(stats_min_value AS BIGINT)) FILTER (path_in_schema = 'ts_event_ns') AS first_ns,
                max(TRY_CAST(stats_max_value AS BIGINT)) FILTER (path_in_schema = 'ts_event_ns') AS last_ns
            FROM parquet_metadata({parameters.bind(list(plan.paths))})
            GROUP BY file_name, row_group_id
        ) WHERE {" AND ".join(conditions)}"""


def _day(day: int | None) -> str | None:
    return None if day is None else (EPOCH_DAY + timedelta(days=day)).isoformat()


def _moment(value: Any) -> str:
    return format_time(value) if isinstance(value, int) else str(value.isoformat())
