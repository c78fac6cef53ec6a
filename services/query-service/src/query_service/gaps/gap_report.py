"""The intervals of a range in which something is missing, or nothing was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from http import HTTPStatus
from typing import Any

from k2common.domain.time import to_datetime
from k2common.engine.scan import Filter, Parameters, Scan
from k2common.http.problems import Problem
from k2common.iceberg.reading.as_of import AsOf
from k2common.query.queries import Queries
from k2common.schemas.datasets import GAPS, REJECTS, Dataset

from query_service.answers.answer_context import AnswerDependencies, scan_of
from query_service.gaps.gaps import breaks_sql, ingested_sql, keys_sql, rejects_sql, silences_sql
from query_service.gaps.parameters import DAY_NS, TIMEFRAMES, GapsParameters, day_ns
from query_service.gaps.silences import (
    Interval,
    Key,
    Rejects,
    Silence,
    explained,
    open_spans,
    rejected_between,
    wide,
)

MAX_INTERVALS = 100_000
SHORTEST_SESSION_NS = 3_600_000_000_000
HALF_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GapReport:
    """The intervals in their order, and the venues of which no calendar is known."""

    intervals: Sequence[Interval]
    unresolved: Sequence[str]
    without_calendar: Sequence[str]


async def find_gaps(
    parts: AnswerDependencies, as_of: AsOf, dataset: Dataset, query: GapsParameters
) -> GapReport:
    """Everything that the range lacks.

    Raises Problem 422 for more than MAX_INTERVALS, and what the reader and the queries raise.
    """
    wanted, causes = query.to_range(), query.to_causes()
    least_ns = TIMEFRAMES[query.timeframe]
    scan = await scan_of(parts, as_of, dataset, wanted)
    silences = _Silences(keys=[], pairs=[])
    if scan is not None:
        silences = await _silences(parts.queries, scan, wanted, least_ns)
    breaks = await _breaks(parts, as_of, dataset, wanted, healed=query.healed)
    uploads = {line[0] for line in silences.lines()} | {row["upload_id"] for row in breaks}
    rejects = await _rejects(parts, as_of, sorted(uploads))
    ingested = await _ingested(parts, as_of, dataset, wanted)
    intervals = [_break(row, rejects) for row in breaks]
    without: set[str] = set()
    for silence, spans, calendar in _spanned(silences, wanted):
        if calendar is None:
            without.add(silence.key.venue)
        intervals += explained(
            silence, spans, least_ns=least_ns, ingested=ingested, rejects=rejects, calendar=calendar
        )
        if len(intervals) > MAX_INTERVALS:
            raise too_many()
    intervals = [interval for interval in intervals if interval.cause in causes]
    intervals.sort(key=lambda i: (i.start, i.key.venue, i.key.symbol, i.key.source, i.cause, i.end))
    known = {key.symbol for key, _, _ in silences.keys}
    return GapReport(
        intervals=intervals,
        unresolved=sorted(set(wanted.symbols) - known),
        without_calendar=sorted(without),
    )


def too_many() -> Problem:
    """Problem 422 for an answer that is too long."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "QUERY_TOO_LARGE",
        f"there are more than {MAX_INTERVALS} intervals; ask for fewer symbols, days or causes",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Silences:
    """Keys with their first and last row, and pairs of rows with a long time between them."""

    keys: Sequence[tuple[Key, Mapping[str, Any], Mapping[str, Any]]]
    pairs: Sequence[Silence]

    def lines(self) -> Sequence[tuple[str, int]]:
        ends = [(row["upload_id"], row["line"]) for _, *rows in self.keys for row in rows]
        inner = [line for pair in self.pairs for line in (pair.before, pair.after) if line is not None]
        return [*ends, *inner]


async def _silences(queries: Queries, scan: Scan, wanted: Filter, least_ns: int) -> _Silences:
    found = await _table(queries, lambda p: keys_sql(scan, wanted, p))
    keys = {
        (row["venue"], row["symbol"], row["source"]): Key(
            venue=row["venue"], symbol=row["symbol"], source=row["source"], always=bool(row["always"])
        )
        for row in found
    }
    shortest = min(least_ns, SHORTEST_SESSION_NS)
    pairs = await _table(
        queries, lambda p: silences_sql(scan, wanted, p, least_ns=shortest, limit=MAX_INTERVALS + 1)
    )
    if len(pairs) > MAX_INTERVALS:
        raise too_many()
    return _Silences(
        keys=[(keys[(r["venue"], r["symbol"], r["source"])], r["first"], r["last"]) for r in found],
        pairs=[
            Silence(
                key=keys[(row["venue"], row["symbol"], row["source"])],
                start=row["before_ns"],
                end=row["ts_event_ns"],
                before=(row["before_upload"], row["before_line"]),
                after=(row["upload_id"], row["line"]),
            )
            for row in pairs
        ],
    )


def _spanned(silences: _Silences, wanted: Filter) -> Sequence[tuple[Silence, Sequence[Any], str | None]]:
    """Every silence with the times when its venue is open: those between rows, and those at the ends."""
    by_key: dict[Key, list[Silence]] = {}
    for pair in silences.pairs:
        by_key.setdefault(pair.key, []).append(pair)
    spanned: list[tuple[Silence, Sequence[Any], str | None]] = []
    for key, first, last in silences.keys:
        start, end = _range(key, wanted)
        lead = Silence(
            key=key, start=start, end=first["ts_event_ns"], after=(first["upload_id"], first["line"])
        )
        trail = Silence(key=key, start=last["ts_event_ns"], end=end, before=(last["upload_id"], last["line"]))
        days = to_datetime(start).date() - HALF_DAY, to_datetime(end).date() + HALF_DAY
        spans, calendar = open_spans(key.venue, *days, always=key.always)
        for silence in (lead, *by_key.get(key, ()), trail):
            if silence.start < silence.end:
                near = [s for s in spans if s[1] < silence.end and s[2] > silence.start]
                spanned.append((silence, near, calendar))
    return spanned


def _range(key: Key, wanted: Filter) -> tuple[int, int]:
    if wanted.trading_date is None:
        return wanted.start_ns or 0, wanted.end_ns or 0
    day = date.fromisoformat(wanted.trading_date)
    spans, _ = open_spans(key.venue, day, day, always=key.always)
    return (spans[0][1], spans[-1][2]) if spans else (day_ns(day), day_ns(day) + DAY_NS)


async def _breaks(
    parts: AnswerDependencies, as_of: AsOf, dataset: Dataset, wanted: Filter, *, healed: bool
) -> Sequence[Mapping[str, Any]]:
    version, gaps = as_of.versions.get(dataset.table), as_of.versions.get(GAPS.table)
    if version is None or gaps is None:
        return []
    plan = await parts.blocking.run(parts.reader.plan, gaps)
    if not plan.paths:
        return []
    limit = MAX_INTERVALS + 1
    rows = await _table(
        parts.queries,
        lambda p: breaks_sql(
            plan, wanted, p, dataset=dataset.name, version=version.number, healed=healed, limit=limit
        ),
    )
    if len(rows) > MAX_INTERVALS:
        raise too_many()
    return rows


def _break(row: Mapping[str, Any], rejects: Rejects) -> Interval:
    """A gap of the sequence; rejected records right before its row explain it."""
    line = row["line"]
    rejected = rejected_between(
        (row["upload_id"], line - row["count"] - 1), (row["upload_id"], line), rejects
    )
    evidence = {
        "kind": row["kind"],
        "healed": wide(row["count"] - row["missing"]),
        "previous_sequence": wide(row["previous_sequence"]),
        "event": row["number"],
        "upload_id": row["upload_id"],
        "line": line,
        "position": [row["row_epoch"], row["row_partition"], row["row_offset"]],
        **({"rejected": rejected} if rejected else {}),
    }
    start = row["ts_event_ns"] if row["start_ns"] is None else row["start_ns"]
    return Interval(
        cause="rejected_rows" if rejected else "sequence_break",
        key=Key(venue=row["venue"], symbol=row["symbol"], source=row["source"]),
        day=row["trading_date"],
        start=min(start, row["ts_event_ns"]),
        end=row["ts_event_ns"],
        first_sequence=row["first_sequence"],
        count=row["count"],
        evidence=evidence,
    )


async def _rejects(parts: AnswerDependencies, as_of: AsOf, uploads: Sequence[str]) -> Rejects:
    version = as_of.versions.get(REJECTS.table)
    if version is None or not uploads:
        return {}
    plan = await parts.blocking.run(parts.reader.plan, version)
    if not plan.paths:
        return {}
    rows = await _table(parts.queries, lambda p: rejects_sql(plan, uploads, p))
    return {row["upload_id"]: row["lines"] for row in rows}


async def _ingested(
    parts: AnswerDependencies, as_of: AsOf, dataset: Dataset, wanted: Filter
) -> frozenset[tuple[str, str, date]]:
    """Of all symbols, and a day further on both sides: a session may begin on the day before its own."""
    padded = Filter(venues=wanted.venues, source=wanted.source, trading_date=wanted.trading_date)
    if wanted.start_ns is not None and wanted.end_ns is not None:
        padded = replace(padded, start_ns=wanted.start_ns - DAY_NS, end_ns=wanted.end_ns + DAY_NS)
    scan = await scan_of(parts, as_of, dataset, padded)
    if scan is None:
        return frozenset()
    rows = await _table(parts.queries, lambda p: ingested_sql(scan, padded, p))
    return frozenset((row["venue"], row["source"], row["trading_date"]) for row in rows)


async def _table(queries: Queries, statement: Callable[[Parameters], str]) -> Sequence[Mapping[str, Any]]:
    parameters = Parameters()
    sql = statement(parameters)
    rows: Sequence[Mapping[str, Any]] = (await queries.table(sql, parameters.values)).to_pylist()
    return rows
