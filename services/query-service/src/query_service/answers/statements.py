"""Rows of one statement in a fixed order, page by page or as a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from k2common.engine.scan import Parameters
from k2common.query.queries import Queries

BATCH_ROWS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """`rows` makes the statement; `order` has expressions over its columns, none of which is ever null.

    Together they tell all rows apart. `rows` is None where there is no row.
    """

    queries: Queries
    rows: Callable[[Parameters], str] | None
    order: Sequence[str]

    async def page(
        self, columns: str, limit: int, key: Sequence[Any] | None
    ) -> tuple[pa.Table | None, Sequence[Any] | None]:
        """Up to `limit` rows after `key` with `columns`, and the key of the last when there are more."""
        if self.rows is None:
            return None, None
        parameters = Parameters()
        sql = self._sql(self.rows, columns, parameters, key=key, limit=limit + 1, keys=self._keys())
        found = await self.queries.table(sql, parameters.values)
        if found.num_rows <= limit:
            return found, None
        last = found.slice(limit - 1, 1).select(list(self._keys())).to_pylist()[0]
        return found.slice(0, limit), list(last.values())

    async def stream(self, columns: str, limit: int | None) -> AsyncGenerator[pa.RecordBatch, None]:
        """All rows, or the first `limit`, with `columns`."""
        if self.rows is None:
            return
        parameters = Parameters()
        sql = self._sql(self.rows, columns, parameters, key=None, limit=limit, keys={})
        batches = self.queries.batches(sql, parameters.values, rows=BATCH_ROWS)
        async with aclosing(batches):
            async for batch in batches:
                yield batch

    def _keys(self) -> Mapping[str, str]:
        return {f"key_{n}": expression for n, expression in enumerate(self.order)}

    def _sql(
        self,
        rows: Callable[[Parameters], str],
        columns: str,
        parameters: Parameters,
        *,
        key: Sequence[Any] | None,
        limit: int | None,
        keys: Mapping[str, str],
    ) -> str:
        order = ", ".join(self.order)
        named = ", ".join([columns, *(f"{expression} AS {name}" for name, expression in keys.items())])
        where = ""
        if key is not None:
            where = f"WHERE ({order}) > ({', '.join(parameters.bind(value) for value in key)})"
        bound = "" if limit is None else f"LIMIT {parameters.bind(limit)}"
        inner = f"SELECT * FROM ({rows(parameters)}) {where} ORDER BY {order} {bound}"
        return f"SELECT {named} FROM ({inner}) ORDER BY {order}"
