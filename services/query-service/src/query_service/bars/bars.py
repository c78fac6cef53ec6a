"""Bars of a range, in the order of their start, venue and symbol; memory holds one part of the range."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Literal

import polars as pl
import pyarrow as pa
from k2common.columnar.arrow import DECIMAL
from k2common.domain.sessions import UnknownVenue, venue_zone
from k2common.engine.connection import ValueOutOfRange
from k2common.engine.scan import Filter, Parameters, Scan
from k2common.http.problems import Problem
from k2common.iceberg.reading.as_of import AsOf
from k2common.schemas.datasets import BARS, TRADES

from query_service.answers.answer_context import AnswerDependencies, scan_of
from query_service.bars.adjustments import Adjusting, Adjustment
from query_service.bars.bar_boundaries import CLOCK_DAY, Clock, boundaries
from query_service.bars.corporate_actions import Basis, load_adjusting
from query_service.bars.statement import BAR_ORDER, Fill, Job, Series, bars_sql
from query_service.bars.timeframes import Span, Timeframe
from query_service.trades.conditions import Rule
from query_service.trades.range_summary import RangeSummary, survey

BATCH_ROWS = 16_384
PAGE_ROWS, STREAM_ROWS = 200_000, 1_000_000
"""So many trades, or filled bars, are aimed at for one statement."""

MAX_PERIODS = 2_000
CRYPTO = "crypto"

SCHEMA = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("venue", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("asset_class", pa.string(), nullable=False),
        pa.field("currency", pa.string()),
        pa.field("timeframe", pa.string(), nullable=False),
        pa.field("ts_event", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("ts_event_ns", pa.int64(), nullable=False),
        pa.field("ts_end_ns", pa.int64()),
        *(pa.field(name, DECIMAL) for name in ("open", "high", "low", "close")),
        pa.field("volume", pa.decimal128(38, 12)),
        pa.field("vwap", DECIMAL),
        pa.field("twap", DECIMAL),
        pa.field("trade_count", pa.int64()),
    ]
)
"""The columns of a bar in every format, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked for. `zone` is that of `align` where it names none."""

    timeframe: Timeframe
    wanted: Filter
    rule: Rule
    vendor: bool = False
    fill: Fill = "none"
    align: Literal["utc", "venue"] | None = None
    zone: str = "UTC"
    regular: bool = False
    adjustment: Adjustment = "raw"
    adjusted_to: date | None = None
    adjustment_source: str | None = None
    twap: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A question with what is known before its first bar: [lo, hi) is the range in which bars begin."""

    question: Question
    scan: Scan | None
    survey: RangeSummary
    clock: Clock
    series: Sequence[Series]
    adjusting: Adjusting
    lo: int
    hi: int


class Bars:
    """Answers questions from the versions of an AsOf."""

    def __init__(self, parts: AnswerDependencies) -> None:
        self._parts = parts

    async def prepare(self, as_of: AsOf, question: Question) -> Prepared:
        """Look over the range.

        Raises Problem 422 for a mix of sources and for a venue without a calendar where one is needed, and
        what the reader and the queries raise.
        """
        dataset = BARS if question.vendor else TRADES
        scan = await scan_of(self._parts, as_of, dataset, question.wanted)
        looked = await survey(
            self._parts.queries,
            scan,
            question.wanted,
            question.rule,
            timeframes=_spellings(question) if question.vendor else (),
        )
        looked.one_source_each(dataset.name)
        series = [
            Series(
                symbol=one.symbol,
                venue=one.venue,
                source=next(iter(one.sources)),
                asset_class=one.asset_class,
                currency=one.currency,
                from_ns=one.first_ns if question.wanted.start_ns is None else question.wanted.start_ns,
                until_ns=one.last_ns + 1 if question.wanted.end_ns is None else question.wanted.end_ns,
            )
            for one in looked.found
        ]
        filling = question.fill != "none"
        firsts = [one.from_ns if filling else found.first_ns for one, found in _both(series, looked)]
        ends = [one.until_ns if filling else found.last_ns + 1 for one, found in _both(series, looked)]
        return Prepared(
            question=question,
            scan=scan,
            survey=looked,
            clock=await self._parts.blocking.run(_clock, question, looked),
            series=series,
            adjusting=await self._adjusting(as_of, question, looked),
            lo=min(firsts, default=0),
            hi=max(ends, default=0),
        )

    async def page(
        self, prepared: Prepared, columns: str, limit: int, key: Sequence[Any] | None
    ) -> tuple[pa.Table | None, Sequence[Any] | None]:
        """Up to `limit` bars after `key` with `columns`, and the key of the last when there are more."""
        found: list[pa.Table] = []
        missing = limit + 1
        batches = self._batches(prepared, columns=columns, limit=missing, key=key, target=PAGE_ROWS)
        async with aclosing(batches):
            async for batch in batches:
                found.append(pa.Table.from_batches([batch]))
                missing -= batch.num_rows
        if not found:
            return None, None
        rows = pa.concat_tables(found)
        if missing:
            return rows, None
        last = rows.slice(limit - 1, 1).to_pylist()[0]
        return rows.slice(0, limit), [last[f"key_{name}"] for name in BAR_ORDER]

    async def stream(
        self, prepared: Prepared, columns: str, limit: int | None
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """All bars, or the first `limit`, with `columns`."""
        batches = self._batches(prepared, columns=columns, limit=limit, key=None, target=STREAM_ROWS)
        async with aclosing(batches):
            async for batch in batches:
                yield batch.select([name for name in batch.schema.names if not name.startswith("key_")])

    async def _batches(
        self, prepared: Prepared, *, columns: str, limit: int | None, key: Sequence[Any] | None, target: int
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """With the columns `key_…` of BAR_ORDER and `key_close` besides."""
        question, left, wide = prepared.question, limit, False
        series = prepared.series
        if not series:
            return
        lo = prepared.lo if key is None else _resumed(prepared, key)
        if question.fill == "prev" and lo > prepared.lo:
            series = await self._carried(prepared, lo)
        unit = CLOCK_DAY if question.vendor else question.timeframe
        for at, end in prepared.clock.cuts(unit, lo, prepared.hi, periods=_periods(prepared, target)):
            job = await self._parts.blocking.run(_job, prepared, series, at, end)
            job = replace(job, wide=wide)
            closes: list[pa.Table] = []
            run = self._run(job, columns, key=key, limit=left)
            async with aclosing(run):
                async for batch, was_wide in run:
                    wide = was_wide
                    left = None if left is None else left - batch.num_rows
                    yield batch
                    if question.fill == "prev":
                        closes.append(pa.Table.from_batches([batch]).select(_LAST))
            if left == 0:
                return
            if closes:
                series = _with_closes(series, _last_closes(closes))

    async def _run(
        self, job: Job, columns: str, *, key: Sequence[Any] | None, limit: int | None
    ) -> AsyncGenerator[tuple[pa.RecordBatch, bool], None]:
        """The bars of one statement, and whether their sums were too large for the plain way."""
        for wide in (job.wide, True):
            batches = self._query(replace(job, wide=wide), columns, key=key, limit=limit)
            async with aclosing(batches):
                begun = False
                try:
                    async for batch in batches:
                        begun = True
                        yield batch, wide
                except ValueOutOfRange:
                    # All sums are made before the first batch.
                    if wide or begun:
                        raise
                else:
                    return

    def _query(
        self, job: Job, columns: str, *, key: Sequence[Any] | None, limit: int | None
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        parameters = Parameters()
        rows = bars_sql(job, parameters)
        where = "" if key is None else f"WHERE {_after(key, parameters)}"
        bound = "" if limit is None else f"LIMIT {parameters.bind(limit)}"
        order = ", ".join(BAR_ORDER)
        keys = ", ".join(f"{_KEYS[name]} AS key_{name}" for name in (*BAR_ORDER, "close"))
        inner = f"SELECT *, {parameters.bind(str(job.timeframe))} AS timeframe FROM ({rows}) {where}"
        sql = f"""
            SELECT {columns}, {keys} FROM (SELECT *, {_OUTPUT} FROM ({inner} ORDER BY {order} {bound}))
            ORDER BY {order}"""
        return self._parts.queries.batches(sql, parameters.values, rows=BATCH_ROWS)

    async def _carried(self, prepared: Prepared, lo: int) -> Sequence[Series]:
        """The series with their last close before `lo`."""
        bare = replace(prepared, question=replace(prepared.question, fill="none"))
        job = await self._parts.blocking.run(_job, bare, prepared.series, prepared.lo, lo)
        for wide in (False, True):
            parameters = Parameters()
            rows = bars_sql(replace(job, wide=wide), parameters)
            sql = f"""
                SELECT symbol, venue, last(close ORDER BY bar_ns, number) AS close
                FROM ({rows}) GROUP BY symbol, venue"""
            try:
                found = await self._parts.queries.table(sql, parameters.values)
            except ValueOutOfRange:
                if wide:
                    raise
            else:
                break
        return _with_closes(
            prepared.series, {(row["symbol"], row["venue"]): row["close"] for row in found.to_pylist()}
        )

    async def _adjusting(self, as_of: AsOf, question: Question, looked: RangeSummary) -> Adjusting:
        dataset = BARS if question.vendor else TRADES
        version = as_of.versions.get(dataset.table)
        until = question.adjusted_to or (date.max if version is None else version.committed_at.date())
        return await load_adjusting(
            self._parts,
            as_of,
            looked.found,
            adjustment=question.adjustment,
            until=until,
            source=question.adjustment_source,
            basis=Basis(
                dataset=dataset,
                price="close" if question.vendor else "price",
                rule=question.rule,
                source=question.wanted.source,
                timeframes=_spellings(question) if question.vendor else (),
            ),
        )


_KEYS = {
    "bar_ns": "bar_ns",
    "venue": "venue",
    "symbol": "symbol",
    "number": "CAST(number AS VARCHAR)",
    "close": "close",
}
_LAST = ["key_symbol", "key_venue", "key_close"]
_OUTPUT = """make_timestamp(bar_ns // 1000)::TIMESTAMPTZ AS ts_event, bar_ns AS ts_event_ns,
    bar_end_ns AS ts_end_ns"""


def _after(key: Sequence[Any], parameters: Parameters) -> str:
    values = ", ".join(parameters.bind(value) for value in key[:-1])
    return f"({', '.join(BAR_ORDER)}) > ({values}, {parameters.bind(key[-1])}::HUGEINT)"


def _job(prepared: Prepared, series: Sequence[Series], lo: int, hi: int) -> Job:
    """The bars that begin in the periods from `lo` to `hi`."""
    question = prepared.question
    assert prepared.scan is not None  # noqa: S101 - there are series
    wanted = question.wanted
    start = lo if wanted.start_ns is None else max(lo, wanted.start_ns)
    end = hi if wanted.end_ns is None else min(hi, wanted.end_ns)
    return Job(
        timeframe=question.timeframe,
        vendor=question.vendor,
        scan=prepared.scan,
        wanted=replace(wanted, start_ns=start, end_ns=end),
        rule=question.rule,
        pieces=[] if question.vendor else prepared.clock.pieces(question.timeframe, lo, hi),
        series=series,
        segments=prepared.adjusting.segments,
        fill=question.fill,
        twap=question.twap,
    )


def _clock(question: Question, looked: RangeSummary) -> Clock:
    kinds = {one.venue: one.asset_class for one in looked.found}
    try:
        zones = {venue: _zone(question, venue, kind) for venue, kind in kinds.items()}
        calendars = [venue for venue, kind in kinds.items() if question.regular and kind != CRYPTO]
        for venue in calendars:
            venue_zone(venue)
    except UnknownVenue as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "CALENDAR_UNKNOWN", str(error)) from error
    return Clock(zones=zones, calendars=frozenset(calendars))


def _zone(question: Question, venue: str, kind: str) -> str:
    if question.align == "venue":
        return "UTC" if kind == CRYPTO else venue_zone(venue)
    return "UTC" if question.align == "utc" or question.vendor else question.zone


def _resumed(prepared: Prepared, key: Sequence[Any]) -> int:
    """Where the period of the last bar begins."""
    if not prepared.clock.is_one:
        return prepared.lo
    (zone,) = set(prepared.clock.zones.values())
    unit = CLOCK_DAY if prepared.question.vendor else prepared.question.timeframe
    return max(prepared.lo, boundaries(unit, zone, key[0], key[0] + 1)[0])


def _periods(prepared: Prepared, target: int) -> int:
    """How many days or bars one statement takes."""
    timeframe = prepared.question.timeframe
    days = max(1.0, (prepared.hi - prepared.lo) / (86_400 * 10**9))
    rows = prepared.survey.rows / days
    if prepared.question.fill != "none" and isinstance(timeframe, Span) and timeframe.width_ns:
        rows += len(prepared.series) * 86_400 * 10**9 / timeframe.width_ns
    long = isinstance(timeframe, Span) and not timeframe.width_ns and not prepared.question.vendor
    length = {"Week": 7, "Month": 30}.get(timeframe.unit, 1) * timeframe.count if long else 1  # type: ignore[union-attr] # a span
    return max(1, min(MAX_PERIODS, int(target / max(rows, 1.0) / length)))


def _spellings(question: Question) -> Sequence[str]:
    return question.timeframe.spellings if isinstance(question.timeframe, Span) else ()


def _both(series: Sequence[Series], looked: RangeSummary) -> Sequence[tuple[Series, Any]]:
    return list(zip(series, looked.found, strict=True))


def _last_closes(batches: Sequence[pa.Table]) -> Mapping[tuple[str, str], Decimal]:
    rows = pl.DataFrame(pl.from_arrow(pa.concat_tables(batches)))
    last = rows.unique(["key_symbol", "key_venue"], keep="last", maintain_order=True)
    columns = (last[name].to_list() for name in ("key_symbol", "key_venue", "key_close"))
    return {(symbol, venue): close for symbol, venue, close in zip(*columns, strict=True)}


def _with_closes(series: Sequence[Series], closes: Mapping[tuple[str, str], Decimal]) -> Sequence[Series]:
    return [replace(one, before=closes.get((one.symbol, one.venue), one.before)) for one in series]
