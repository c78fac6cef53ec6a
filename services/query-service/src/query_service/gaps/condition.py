"""The quality of a dataset, day by day: what there is, what was refused, what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from k2common.domain.time import format_datetime
from k2common.engine.differences import plain_rows_sql
from k2common.engine.scan import Filter, Parameters, Scan
from k2common.engine.text import columns_of
from k2common.iceberg.reading.as_of import AsOf
from k2common.query.queries import Queries
from k2common.schemas.datasets import DEAD_LETTERS, GAPS, REJECTS, Dataset

from query_service.answers.answer_context import AnswerDependencies, scan_of
from query_service.gaps.gaps import FLAGS, condition_sql, events_sql
from query_service.gaps.parameters import ConditionParameters
from query_service.gaps.silences import open_spans

COUNTED = ("rows", "symbols", "without_sequence", *FLAGS)
EVENT_KINDS = ("duplicate", "out_of_order", "reset_overnight", "reset_restart")


async def conditions(
    parts: AnswerDependencies, as_of: AsOf, dataset: Dataset, query: ConditionParameters
) -> Sequence[Mapping[str, Any]]:
    """An entry for each trading date of the range that has rows, or on which a venue was open without any."""
    query.check()
    wanted = query.to_filter()
    scan = await scan_of(parts, as_of, dataset, wanted)
    if scan is None:
        return []
    columns = frozenset(columns_of(dataset))
    rows = await _table(parts.queries, condition_sql, scan, wanted, columns)
    rows = [row for row in rows if _inside(row["trading_date"], query)]
    found = {row["trading_date"]: row for row in rows}
    rejects = await _counts(parts, as_of, REJECTS.table)
    letters = await _counts(parts, as_of, DEAD_LETTERS.table)
    events = await _events(parts, as_of, dataset, wanted)
    days = sorted({*found, *_expected(rows, query)})
    return [
        _entry(day, found.get(day), events.get(day, {}), rejects=rejects, letters=letters) for day in days
    ]


def _entry(
    day: date,
    row: Mapping[str, Any] | None,
    events: Mapping[str, Any],
    *,
    rejects: Mapping[str, int],
    letters: Mapping[str, int],
) -> Mapping[str, Any]:
    uploads: Sequence[str] = [] if row is None else row["uploads"]
    refused = sum(rejects.get(upload, 0) for upload in uploads)
    dead = sum(letters.get(upload, 0) for upload in uploads)
    gaps = events.get("gaps", 0)
    there = "degraded" if refused or dead or gaps else "available"
    return {
        "trading_date": day.isoformat(),
        "condition": "missing" if row is None else there,
        "last_ingested": None if row is None else format_datetime(row["last_ingested"]),
        **{name: 0 if row is None else row[name] for name in COUNTED},
        "uploads": len(uploads),
        "rejects": refused,
        "dead_letters": dead,
        "gaps": gaps,
        "missing_sequences": events.get("missing", "0"),
        **{kind: events.get(kind, 0) for kind in EVENT_KINDS},
    }


def _expected(rows: Sequence[Mapping[str, Any]], query: ConditionParameters) -> Sequence[date]:
    """Dates of the range on which one of the venues was open, as far as calendars are known."""
    days = [row["trading_date"] for row in rows]
    days += [day for day in (query.start_date, query.end_date) if day is not None]
    if not rows:
        return []
    found: set[date] = set()
    for venue in {venue for row in rows for venue in row["venues"]}:
        spans, calendar = open_spans(venue, min(days), max(days), always=False)
        if calendar is not None:
            found |= {day for day, _, _ in spans}
    return sorted(found)


def _inside(day: date, query: ConditionParameters) -> bool:
    first, last = query.start_date or date.min, query.end_date or date.max
    return first <= day <= last


async def _events(
    parts: AnswerDependencies, as_of: AsOf, dataset: Dataset, wanted: Filter
) -> Mapping[date, Mapping[str, Any]]:
    """Open gaps, missing numbers as text, and other events by day."""
    version, gaps = as_of.versions.get(dataset.table), as_of.versions.get(GAPS.table)
    if version is None or gaps is None:
        return {}
    plan = await parts.blocking.run(parts.reader.plan, gaps)
    if not plan.paths:
        return {}
    parameters = Parameters()
    events = events_sql(plan, wanted, parameters, dataset=dataset.name, version=version.number)
    kinds = ", ".join(f"count(*) FILTER (kind = '{kind}') AS {kind}" for kind in EVENT_KINDS)
    sql = f"""
        SELECT trading_date, count(*) FILTER (missing > 0) AS gaps,
            coalesce(sum(missing), 0)::VARCHAR AS missing, {kinds}
        FROM ({events}) GROUP BY trading_date"""
    rows = (await parts.queries.table(sql, parameters.values)).to_pylist()
    return {row.pop("trading_date"): row for row in rows}


async def _counts(parts: AnswerDependencies, as_of: AsOf, table: str) -> Mapping[str, int]:
    """Rows of a table by upload."""
    version = as_of.versions.get(table)
    if version is None:
        return {}
    plan = await parts.blocking.run(parts.reader.plan, version)
    if not plan.paths:
        return {}
    parameters = Parameters()
    sql = f"SELECT upload_id AS name, count(*) AS n FROM ({plain_rows_sql(plan, parameters)}) GROUP BY ALL"
    rows = (await parts.queries.table(sql, parameters.values)).to_pylist()
    return {row["name"]: row["n"] for row in rows if row["name"] is not None}


async def _table(
    queries: Queries, statement: Any, scan: Scan, wanted: Filter, columns: frozenset[str]
) -> list[Mapping[str, Any]]:
    parameters = Parameters()
    sql = statement(scan, wanted, parameters, columns)
    rows: list[Mapping[str, Any]] = (await queries.table(sql, parameters.values)).to_pylist()
    return rows
