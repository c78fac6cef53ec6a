"""Rows of one dataset: a page with a token for the next one, or a stream day by day."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pyarrow as pa
from k2common.engine.scan import ORDER_BY, Filter, Parameters, Scan, after, order_key, rows_sql
from k2common.engine.text import columns_of, json_expression, lines, quoted, text_expressions
from k2common.iceberg.asof import AsOf
from k2common.iceberg.plan import Plan
from k2common.iceberg.reader import VersionReader
from k2common.runtime.blocking import Blocking
from k2common.runtime.queries import Queries
from k2common.schemas.datasets import Dataset

BATCH_ROWS = 16_384
KEY_COLUMNS = "ts_event_ns, sequence, dataset, venue, symbol, upload_id, line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows as JSON texts, and where the next page goes on; None at the end."""

    lines: Sequence[str]
    next_key: Sequence[Any] | None


class Rows:
    """Reads the rows of `wanted` from the versions of an AsOf, in the total order."""

    def __init__(self, *, reader: VersionReader, queries: Queries, blocking: Blocking) -> None:
        self._reader = reader
        self._queries = queries
        self._blocking = blocking

    async def page(
        self, dataset: Dataset, as_of: AsOf, wanted: Filter, *, limit: int, key: Sequence[Any] | None
    ) -> Page:
        """Up to `limit` rows after `key`.

        Raises what the reader and the queries raise.
        """
        if key is not None:
            wanted = replace(wanted, start_ns=max(key[0], wanted.start_ns or key[0]))
        found: list[pa.Table] = []
        missing = limit + 1
        columns = f"CAST({json_expression(dataset)} AS VARCHAR) AS text, {KEY_COLUMNS}"
        for plan in await self._days(dataset, as_of, wanted):
            parameters = Parameters()
            sql = _sql(columns, dataset, plan, wanted, parameters, key=key, limit=missing)
            found.append(await self._queries.table(sql, parameters.values))
            missing -= found[-1].num_rows
            if not missing:
                break
        if not found:
            return Page(lines=(), next_key=None)
        rows = pa.concat_tables(found)
        last = None
        if not missing:
            rows = rows.slice(0, limit)
            last = order_key(rows.slice(limit - 1, 1).to_pylist()[0])
        return Page(lines=rows["text"].to_pylist(), next_key=last)

    async def stream(
        self, dataset: Dataset, as_of: AsOf, wanted: Filter, *, form: str, limit: int | None
    ) -> AsyncIterator[bytes]:
        """All rows, or the first `limit`, as ndjson, csv or arrow; memory stays bounded."""
        writer = _WRITERS[form](dataset)
        yield writer.start()
        left = limit
        for plan in await self._days(dataset, as_of, wanted):
            if left == 0:
                break
            parameters = Parameters()
            sql = _sql(writer.columns, dataset, plan, wanted, parameters, key=None, limit=left)
            async for batch in self._queries.batches(sql, parameters.values, rows=BATCH_ROWS):
                left = None if left is None else left - batch.num_rows
                yield writer.rows(batch)
        yield writer.end()

    async def unresolved(self, dataset: Dataset, as_of: AsOf, wanted: Filter) -> Sequence[str]:
        """The wanted symbols that no row of the range has."""
        if not wanted.symbols:
            return []
        plan = await self._plan(dataset, as_of, wanted)
        if plan is None:
            return list(wanted.symbols)
        parameters = Parameters()
        rows = rows_sql([Scan(dataset=dataset, plan=plan)], wanted, parameters)
        found = await self._queries.table(f"SELECT DISTINCT symbol FROM ({rows})", parameters.values)
        return sorted(set(wanted.symbols) - set(found["symbol"].to_pylist()))

    async def _days(self, dataset: Dataset, as_of: AsOf, wanted: Filter) -> Sequence[Plan]:
        plan = await self._plan(dataset, as_of, wanted)
        return [] if plan is None else [of_day for _, of_day in plan.by_day()]

    async def _plan(self, dataset: Dataset, as_of: AsOf, wanted: Filter) -> Plan | None:
        return await self._blocking.run(
            as_of.plan,
            self._reader,
            dataset.table,
            start_ns=wanted.start_ns,
            end_ns=wanted.end_ns,
            symbols=wanted.symbols,
        )


def filter_digest(wanted: Filter, dataset: Dataset) -> str:
    """Tells whether a page token belongs to a request."""
    return hashlib.sha256(f"{dataset.name} {wanted}".encode()).hexdigest()[:16]


def _sql(
    columns: str,
    dataset: Dataset,
    plan: Plan,
    wanted: Filter,
    parameters: Parameters,
    *,
    key: Sequence[Any] | None,
    limit: int | None,
) -> str:
    rows = rows_sql([Scan(dataset=dataset, plan=plan)], wanted, parameters)
    where = "" if key is None else f" WHERE {after(key, parameters)}"
    bound = "" if limit is None else f" LIMIT {parameters.bind(limit)}"
    # The rows are cut off before they are written out, which costs more than to order them.
    inner = f"SELECT * FROM ({rows}){where} ORDER BY {ORDER_BY}{bound}"
    return f"SELECT {columns} FROM ({inner}) ORDER BY {ORDER_BY}"


class _Ndjson:
    def __init__(self, dataset: Dataset) -> None:
        self.columns = f"CAST({json_expression(dataset)} AS VARCHAR) AS text"

    def start(self) -> bytes:
        return b""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        return lines(batch.column("text"))

    def end(self) -> bytes:
        return b""


class _Csv:
    def __init__(self, dataset: Dataset) -> None:
        self.columns = text_expressions(dataset)
        self._names = columns_of(dataset)

    def start(self) -> bytes:
        return (",".join(self._names) + "\n").encode()

    def rows(self, batch: pa.RecordBatch) -> bytes:
        text: str = pl.DataFrame(pl.from_arrow(batch)).write_csv(include_header=False)
        return text.encode()

    def end(self) -> bytes:
        return b""


class _Arrow:
    def __init__(self, dataset: Dataset) -> None:
        self.columns = ", ".join(quoted(name) for name in columns_of(dataset))
        self._dataset = dataset
        self._out = io.BytesIO()
        self._writer: Any = None

    def start(self) -> bytes:
        return b""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._out, batch.schema)
        self._writer.write_batch(batch)
        return self._taken()

    def end(self) -> bytes:
        if self._writer is not None:
            self._writer.close()
        return self._taken()

    def _taken(self) -> bytes:
        data = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        return data


_WRITERS: dict[str, Any] = {"ndjson": _Ndjson, "csv": _Csv, "arrow": _Arrow}


def page_json(page: Page, *, token: str | None, meta: dict[str, Any]) -> bytes:
    """The envelope around a page; the rows are JSON already."""
    head = '{"data":[' + ",".join(page.lines)
    rest = json.dumps({"next_page_token": token, "meta": meta}, separators=(",", ":"))
    return f"{head}],{rest[1:]}".encode()
