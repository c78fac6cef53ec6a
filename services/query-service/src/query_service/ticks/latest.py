"""The newest row of each symbol; the newest files are read first, and only as many as it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from k2common.engine.scan import Order, Parameters, Scan, rows_sql
from k2common.iceberg.reading.plan import Plan
from k2common.query.queries import Queries

from query_service.answers.formats import Writer
from query_service.answers.planning import Planner
from query_service.ticks.rows import RowQuery

WIDER = 2
SYMBOL = "k2_symbol"
ONE_EACH = "QUALIFY row_number() OVER (PARTITION BY symbol ORDER BY {by}) = 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestRows:
    """Symbols in ascending order and the row of each; `more` says that there are further ones."""

    symbols: Sequence[str]
    rows: pa.Table
    more: bool


class Latest:
    """Finds the last row of each wanted symbol in the total order; raises what planner and queries raise."""

    def __init__(self, *, planner: Planner, queries: Queries) -> None:
        self._planner = planner
        self._queries = queries

    async def rows(
        self, asked: RowQuery, writer: Writer, *, after: str | None, limit: int | None
    ) -> LatestRows:
        """The first `limit` symbols after `after`, each with its row in the writer's columns."""
        found: list[pa.Table] = []
        seen: set[str] = set()
        groups, count = await self._groups(asked), 1
        while groups:
            first, *others = [groups.pop() for _ in range(min(count, len(groups)))]
            left = self._left(asked, seen)
            if left is None:
                break
            rows = await self._of(left, first.joined(others), writer, seen=seen, after=after)
            found.append(rows)
            seen |= set(rows[SYMBOL].to_pylist())
            count *= WIDER
        return _sorted(found, limit)

    def _left(self, asked: RowQuery, seen: set[str]) -> RowQuery | None:
        if not asked.wanted.symbols:
            return asked
        missing = [symbol for symbol in asked.wanted.symbols if symbol not in seen]
        return replace(asked, wanted=replace(asked.wanted, symbols=missing)) if missing else None

    async def _of(
        self, asked: RowQuery, plan: Plan, writer: Writer, *, seen: set[str], after: str | None
    ) -> pa.Table:
        parameters = Parameters()
        rows = rows_sql([Scan(dataset=asked.shape.dataset, plan=plan)], asked.wanted, parameters)
        # What has no time on this clock is not the newest.
        conditions = [f"{asked.order.clock} IS NOT NULL"]
        if after is not None:
            conditions.append(f"symbol > {parameters.bind(after)}")
        if seen and not asked.wanted.symbols:
            conditions.append(f"symbol NOT IN (SELECT unnest({parameters.bind(sorted(seen))}))")
        one_each = ONE_EACH.format(by=_backwards(asked.order).by)
        newest = f"SELECT * FROM ({rows}) WHERE {' AND '.join(conditions)} {one_each}"
        sql = f"SELECT {writer.select(parameters)}, symbol AS {SYMBOL} FROM ({newest})"
        return await self._queries.table(sql, parameters.values)

    async def _groups(self, asked: RowQuery) -> list[Plan]:
        plan = await self._planner.plan(asked.as_of, asked.shape.dataset, asked.wanted)
        return [] if plan is None else plan.in_order(asked.order.clock)


def _backwards(order: Order) -> Order:
    return replace(order, descending=True)


def _sorted(found: Sequence[pa.Table], limit: int | None) -> LatestRows:
    if not found:
        return LatestRows(symbols=(), rows=pa.table({}), more=False)
    rows: Any = pa.concat_tables(found).sort_by(SYMBOL)
    more = limit is not None and rows.num_rows > limit
    rows = rows.slice(0, limit)
    return LatestRows(symbols=rows[SYMBOL].to_pylist(), rows=rows.drop_columns([SYMBOL]), more=more)
