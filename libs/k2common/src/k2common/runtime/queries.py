"""Queries of the engine beside the event loop: so many at a time, each with a time limit, none for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

import pyarrow as pa

from k2common.engine.connection import Engine, Query
from k2common.runtime.blocking import Blocking
from k2common.settings.engine import EngineSettings

Result = TypeVar("Result")


class Queries:
    """Runs queries in threads. A query whose caller has gone is interrupted and its thread waited for."""

    def __init__(self, engine: Engine, settings: EngineSettings) -> None:
        self._engine = engine
        self._seconds = settings.query_seconds
        self._slots = asyncio.Semaphore(settings.concurrent_queries)
        self._blocking = Blocking(workers=settings.concurrent_queries)

    async def table(self, sql: str, parameters: Mapping[str, Any]) -> pa.Table:
        """The whole result.

        Raises QueryInterrupted past the time limit, and what Query raises.
        """
        async with self._slots:
            with self._engine.query(sql, parameters) as query:
                return await self._run(query, query.table)

    async def batches(
        self, sql: str, parameters: Mapping[str, Any], *, rows: int
    ) -> AsyncIterator[pa.RecordBatch]:
        """The result in batches of about `rows`; the time limit is for each of them.

        Raises as `table`.
        """
        async with self._slots:
            with self._engine.query(sql, parameters) as query:
                batches = query.batches(rows)
                while (batch := await self._run(query, lambda: next(batches, None))) is not None:
                    yield batch

    def close(self) -> None:
        """Wait for what runs."""
        self._blocking.close()

    async def _run(self, query: Query, function: Callable[[], Result]) -> Result:
        task = asyncio.create_task(self._blocking.run(function))
        try:
            await asyncio.wait({task}, timeout=self._seconds)
        finally:
            # Past its time, or nobody waits: the cursor is free only when the thread is out of it.
            while not task.done():
                query.interrupt()
                await asyncio.wait({task}, timeout=0.05)
        return task.result()
