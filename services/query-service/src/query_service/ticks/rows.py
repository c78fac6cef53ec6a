"""Rows of one dataset in an order: a page with the key for the next one, or a stream.

Files are read in groups that share no time, one after the other, so that nothing is sorted as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from k2common.engine.scan import ORDER, Filter, Order, Parameters, Scan, no_rows_sql, rows_sql
from k2common.engine.shape import Shape
from k2common.iceberg.reading.as_of import AsOf
from k2common.iceberg.reading.plan import Plan
from k2common.query.queries import Queries
from k2common.runtime.blocking import Blocking

from query_service.answers.formats import Writer
from query_service.answers.pages import Page
from query_service.answers.planning import Planner

GROUP_ROWS = 500_000
"""About so many rows are sorted at once."""
FASTER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RowQuery:
    """Which rows, in which order, in which shape, of which version."""

    as_of: AsOf
    wanted: Filter
    shape: Shape
    order: Order = ORDER


class Rows:
    """Reads rows; every method raises what the planner and the queries raise."""

    def __init__(self, *, planner: Planner, queries: Queries, blocking: Blocking) -> None:
        self._planner = planner
        self._queries = queries
        self._blocking = blocking

    async def page(self, asked: RowQuery, *, limit: int, key: Sequence[Any] | None) -> Page:
        """Up to `limit` rows after `key`."""
        if key is not None:
            asked = replace(asked, wanted=asked.order.narrowed(asked.wanted, key))
        found: list[pa.Table] = []
        missing = limit + 1
        pace = Pace(await self._groups(asked))
        while missing and (plan := pace.next()) is not None:
            parameters = Parameters()
            columns = f"{asked.shape.json(parameters)} AS text, symbol, {_named(asked.order.columns)}"
            sql = _cut(columns, asked, plan, parameters, key=key, limit=missing)
            found.append(await self._queries.table(sql, parameters.values))
            pace.gave(found[-1].num_rows)
            missing -= found[-1].num_rows
        return _page(found, asked.order, limit=limit)

    async def stream(
        self, asked: RowQuery, writer: Writer, *, limit: int | None
    ) -> AsyncGenerator[bytes, None]:
        """All rows, or the first `limit`, as the writer writes them; memory stays bounded."""
        schema, groups = await self.schema(asked, writer), await self._groups(asked)
        if groups:
            # Before the first byte a refusal still has its status.
            await self._blocking.run(groups[0].verify, groups[0].paths)
        yield writer.start(schema)
        left = limit
        pace = Pace(groups)
        while left != 0 and (plan := pace.next()) is not None:
            parameters = Parameters()
            sql = _cut(writer.select(parameters), asked, plan, parameters, key=None, limit=left)
            given = 0
            batches = self._queries.batches(sql, parameters.values, rows=writer.batch_rows)
            async with aclosing(batches):
                async for batch in batches:
                    given += batch.num_rows
                    yield await self._blocking.run(writer.rows, batch)
            pace.gave(given)
            left = None if left is None else left - given
        yield writer.end()

    async def unresolved(self, asked: RowQuery, seen: frozenset[str]) -> Sequence[str]:
        """The wanted symbols that no row has; `seen` are known to have some."""
        missing = [symbol for symbol in asked.wanted.symbols if symbol not in seen]
        if not missing:
            return []
        asked = replace(asked, wanted=replace(asked.wanted, symbols=missing))
        plan = await self._planner.plan(asked.as_of, asked.shape.dataset, asked.wanted)
        if plan is None or not plan.paths:
            return sorted(missing)
        parameters = Parameters()
        rows = rows_sql([Scan(dataset=asked.shape.dataset, plan=plan)], asked.wanted, parameters)
        found = await self._queries.table(f"SELECT DISTINCT symbol FROM ({rows})", parameters.values)
        return sorted(set(missing) - set(found["symbol"].to_pylist()))

    async def written(self, writer: Writer, schema: pa.Schema, rows: pa.Table) -> AsyncGenerator[bytes, None]:
        """Rows that were read already, as the writer writes them."""
        yield writer.start(schema)
        for batch in rows.to_batches(max_chunksize=writer.batch_rows):
            yield await self._blocking.run(writer.rows, batch)
        yield writer.end()

    async def schema(self, asked: RowQuery, writer: Writer) -> pa.Schema:
        """The columns of the writer's batches, as the engine gives them where there is no row."""
        parameters = Parameters()
        sql = f"SELECT {writer.select(parameters)} FROM ({no_rows_sql(asked.shape.dataset)})"
        return (await self._queries.table(sql, parameters.values)).schema

    async def _groups(self, asked: RowQuery) -> Sequence[Plan]:
        plan = await self._planner.plan(asked.as_of, asked.shape.dataset, asked.wanted)
        groups = [] if plan is None else plan.in_order(asked.order.clock)
        return groups[::-1] if asked.order.descending else groups


class Pace:
    """Which groups of files to read next: one at first, more at once while the rows of many are few.

    So a narrow filter over a long time costs few queries, and a wide one sorts not much more than GROUP_ROWS.
    """

    def __init__(self, groups: Sequence[Plan]) -> None:
        self._left = list(groups)[::-1]
        self._count = 1
        self._planned = 0

    def next(self) -> Plan | None:
        """The next groups as one plan; None at the end."""
        if not self._left:
            return None
        first, *others = [self._left.pop() for _ in range(min(self._count, len(self._left)))]
        plan = first.joined(others)
        self._planned = plan.rows
        return plan

    def gave(self, rows: int) -> None:
        """So many rows came of what `next` gave last."""
        if not self._left:
            return
        share = (rows + 1) / (self._planned + 1)
        fitting = int(GROUP_ROWS / max(1.0, share * self._left[-1].rows))
        self._count = max(1, min(self._count * FASTER, fitting))


def filter_digest(asked: RowQuery, kind: str) -> str:
    """Tells whether a page token belongs to a request."""
    text = f"{kind} {asked.shape.dataset.name} {asked.wanted} {asked.order}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _page(found: Sequence[pa.Table], order: Order, *, limit: int) -> Page:
    if not found:
        return Page(lines=(), next_key=None)
    rows = pa.concat_tables(found)
    last = None
    if rows.num_rows > limit:
        rows = rows.slice(0, limit)
        last = list(rows.slice(limit - 1, 1).select(list(order.columns)).to_pylist()[0].values())
    symbols = frozenset(rows["symbol"].unique().to_pylist())
    return Page(lines=rows["text"].to_pylist(), next_key=last, symbols=symbols)


def _cut(
    columns: str,
    asked: RowQuery,
    plan: Plan,
    parameters: Parameters,
    *,
    key: Sequence[Any] | None,
    limit: int | None,
) -> str:
    rows = rows_sql([Scan(dataset=asked.shape.dataset, plan=plan)], asked.wanted, parameters)
    where = "" if key is None else f" WHERE {asked.order.after(key, parameters)}"
    by = asked.order.by
    if limit is None:
        return f"SELECT {columns} FROM ({rows}){where} ORDER BY {by}"
    # The rows are cut off before they are written out, which costs more than to order them.
    inner = f"SELECT * FROM ({rows}){where} ORDER BY {by} LIMIT {parameters.bind(limit)}"
    return f"SELECT {columns} FROM ({inner}) ORDER BY {by}"


def _named(expressions: Mapping[str, str]) -> str:
    return ", ".join(f"{expression} AS {name}" for name, expression in expressions.items())
