"""Each trade with the quote that stood before it: an as-of join that no order of rows in files can change.

The engine's ASOF JOIN picks by physical order among equal times. So the quotes of one instant are reduced to
the last of them in the total order first; then no two are equal.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa
from k2common.columnar.arrow import DECIMAL
from k2common.engine.scan import ORDER, Filter, Parameters, Scan, no_rows_sql, rows_sql
from k2common.iceberg.reading.as_of import AsOf
from k2common.schemas.datasets import QUOTES, TRADES

from query_service.answers.answer_context import AnswerDependencies, scan_of
from query_service.trades.conditions import Rule
from query_service.trades.range_summary import survey

DAY_NS = 86_400 * 10**9
BATCH_ROWS = 16_384
OF_TRADE = ("symbol", "venue", "source", "currency", "trading_date", "ts_event", "ts_event_ns", "sequence")
OF_TRADE_TOO = ("price", "size", "side", "conditions", "flags", "trade_id", "upload_id", "line")
OF_QUOTE = ("bid_price", "bid_size", "ask_price", "ask_size")
NAMED_OF_QUOTE = ("ts_event_ns", "sequence", "flags", "upload_id", "line")

SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in OF_TRADE[:4]),
        pa.field("trading_date", pa.date32()),
        pa.field("ts_event", pa.timestamp("us", "UTC")),
        pa.field("ts_event_ns", pa.int64()),
        pa.field("sequence", pa.int64()),
        pa.field("price", DECIMAL),
        pa.field("size", DECIMAL),
        pa.field("side", pa.string()),
        pa.field("conditions", pa.list_(pa.string())),
        pa.field("flags", pa.int32()),
        pa.field("trade_id", pa.string()),
        pa.field("upload_id", pa.string()),
        pa.field("line", pa.int64()),
        *(pa.field(name, DECIMAL) for name in OF_QUOTE),
        pa.field("quote_age_ns", pa.int64()),
        pa.field("quote_ts_event_ns", pa.int64()),
        pa.field("quote_sequence", pa.int64()),
        pa.field("quote_flags", pa.int32()),
        pa.field("quote_upload_id", pa.string()),
        pa.field("quote_line", pa.int64()),
    ]
)
"""The columns of a trade and of its quote, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Trades of `wanted`, each with the last quote that is older by at most `tolerance_ns`."""

    as_of: AsOf
    wanted: Filter
    match: Literal["before", "at_or_before"]
    tolerance_ns: int
    quote_source: str | None = None


class Joins:
    """Answers questions day by day; every method raises what the planner and the queries raise."""

    def __init__(self, parts: AnswerDependencies) -> None:
        self._parts = parts

    async def check(self, question: Question) -> Sequence[str]:
        """The wanted symbols that no trade has. Raises Problem 422 for quotes of several sources."""
        looked = await self._survey(question, QUOTES, _quotes_of(question, question.wanted))
        looked.one_source_each(QUOTES.name, parameter="quote_source")
        if not question.wanted.symbols:
            return []
        found = await self._survey(question, TRADES, question.wanted)
        return sorted(set(question.wanted.symbols) - {one.symbol for one in found.found})

    async def page(
        self, question: Question, columns: str, limit: int, key: Sequence[Any] | None
    ) -> tuple[pa.Table | None, Sequence[Any] | None]:
        """Up to `limit` trades after `key` with `columns`, and the key of the last when there are more."""
        keys = ", ".join(f"{expression} AS {name}" for name, expression in ORDER.columns.items())
        found: list[pa.Table] = []
        missing = limit + 1
        batches = self._batches(question, f"{columns}, {keys}", limit=missing, key=key)
        async with aclosing(batches):
            async for batch in batches:
                found.append(pa.Table.from_batches([batch]))
                missing -= batch.num_rows
        if not found:
            return None, None
        rows = pa.concat_tables(found)
        if missing:
            return rows, None
        last = rows.slice(limit - 1, 1).select(list(ORDER.columns)).to_pylist()[0]
        return rows.slice(0, limit), list(last.values())

    def stream(
        self, question: Question, columns: str, limit: int | None
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """All trades, or the first `limit`, with `columns`."""
        return self._batches(question, columns, limit=limit, key=None)

    async def _batches(
        self, question: Question, columns: str, *, limit: int | None, key: Sequence[Any] | None
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        left = limit
        wanted = question.wanted if key is None else ORDER.narrowed(question.wanted, key)
        for of_day in await self._days(question, wanted):
            if left == 0:
                return
            parameters = Parameters()
            sql = await self._sql(question, of_day, columns, parameters, key=key, limit=left)
            batches = self._parts.queries.batches(sql, parameters.values, rows=BATCH_ROWS)
            async with aclosing(batches):
                async for batch in batches:
                    left = None if left is None else left - batch.num_rows
                    yield batch

    async def _days(self, question: Question, wanted: Filter) -> Sequence[Filter]:
        """The filter, cut to each day that has trades."""
        scan = await scan_of(self._parts, question.as_of, TRADES, wanted)
        if scan is None:
            return []
        days = [day for day, _ in scan.plan.by_day() if day is not None]
        return [
            replace(
                wanted,
                start_ns=max(day * DAY_NS, day * DAY_NS if wanted.start_ns is None else wanted.start_ns),
                end_ns=min(
                    (day + 1) * DAY_NS, (day + 1) * DAY_NS if wanted.end_ns is None else wanted.end_ns
                ),
            )
            for day in days
        ]

    async def _sql(
        self,
        question: Question,
        wanted: Filter,
        columns: str,
        parameters: Parameters,
        *,
        key: Sequence[Any] | None,
        limit: int | None,
    ) -> str:
        trades = await scan_of(self._parts, question.as_of, TRADES, wanted)
        of_quotes = _quotes_of(question, wanted)
        quotes = await scan_of(self._parts, question.as_of, QUOTES, of_quotes)
        assert trades is not None  # noqa: S101 - the day has some
        where = "" if key is None else f"WHERE {ORDER.after(key, parameters)}"
        bound = "" if limit is None else f"LIMIT {parameters.bind(limit)}"
        # The trades are cut off before their quotes are looked for.
        kept = f"SELECT * FROM ({rows_sql([trades], wanted, parameters)}) {where} ORDER BY {ORDER.by} {bound}"
        last = _last_quotes(quotes, of_quotes, parameters)
        joined = _joined(kept, last, question, parameters)
        return f"SELECT {columns} FROM ({joined}) ORDER BY {ORDER.by}"

    async def _survey(self, question: Question, dataset: Any, wanted: Filter) -> Any:
        scan = await scan_of(self._parts, question.as_of, dataset, wanted)
        return await survey(self._parts.queries, scan, wanted, Rule())


def _quotes_of(question: Question, wanted: Filter) -> Filter:
    """Quotes that may stand before the wanted trades; conditions are the trades'."""
    start = wanted.start_ns
    return Filter(
        start_ns=None if start is None else max(start - question.tolerance_ns, -(2**63)),
        end_ns=wanted.end_ns,
        symbols=wanted.symbols,
        venues=wanted.venues,
        source=question.quote_source or wanted.source,
    )


def _last_quotes(quotes: Scan | None, wanted: Filter, parameters: Parameters) -> str:
    """The last quote of each instant in the total order."""
    rows = no_rows_sql(QUOTES) if quotes is None else rows_sql([quotes], wanted, parameters)
    entries = ", ".join(f"'{name}': {name}" for name in (*OF_QUOTE, *NAMED_OF_QUOTE))
    return f"""
        SELECT symbol, venue, ts_event_ns,
            last({{{entries}}} ORDER BY sequence NULLS LAST, upload_id, line) AS quote
        FROM ({rows}) GROUP BY symbol, venue, ts_event_ns"""


def _joined(trades: str, quotes: str, question: Question, parameters: Parameters) -> str:
    operator = ">" if question.match == "before" else ">="
    age = "trade.ts_event_ns - last_quote.ts_event_ns"
    near = f"{age} <= {parameters.bind(question.tolerance_ns)}"
    taken = [f"CASE WHEN {near} THEN quote.{name} END AS {name}" for name in OF_QUOTE]
    taken += [f"CASE WHEN {near} THEN quote.{name} END AS quote_{name}" for name in NAMED_OF_QUOTE]
    own = ", ".join(f"trade.{name}" for name in ("dataset", *OF_TRADE, *OF_TRADE_TOO))
    return f"""
        SELECT {own}, {", ".join(taken)}, CASE WHEN {near} THEN {age} END AS quote_age_ns
        FROM ({trades}) AS trade ASOF LEFT JOIN ({quotes}) AS last_quote
            ON trade.symbol = last_quote.symbol AND trade.venue = last_quote.venue
            AND trade.ts_event_ns {operator} last_quote.ts_event_ns"""
