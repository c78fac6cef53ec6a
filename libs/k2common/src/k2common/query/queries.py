"""Queries of the engine beside the event loop: so many at a time, each with a time limit, none for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import pyarrow as pa

from k2common.engine.connection import Engine, Query
from k2common.observability.metrics import CollectorRegistry
from k2common.query.admission import AdmissionQueue
from k2common.query.query_metrics import QueriesMetrics
from k2common.query.timings import step
from k2common.runtime.blocking import Blocking
from k2common.settings.engine import EngineSettings

Result = TypeVar("Result")


class Queries:
    """Runs queries in threads. A query whose caller has gone is interrupted and its thread waited for.

    A stream that nobody reads on computes nothing and stands in nobody's way; only so many may be open.
    """

    def __init__(
        self, engine: Engine, settings: EngineSettings, *, metrics: QueriesMetrics | None = None
    ) -> None:
        self._engine = engine
        self._seconds = settings.query_seconds
        self._computing = _gate(settings.concurrent_queries, settings)
        self._streams = _gate(settings.open_streams, settings, per_caller=settings.streams_per_caller)
        self._metrics = metrics or QueriesMetrics(CollectorRegistry())
        self._metrics.running.source = lambda: {(): self._computing.inside}
        self._metrics.waiting.source = lambda: {(): self._computing.waiting + self._streams.waiting}
        self._metrics.streams.source = lambda: {(): self._streams.inside}
        self._metrics.tell_use(engine.use)
        self._blocking = Blocking(workers=settings.concurrent_queries)
        self._closing = Blocking(workers=1)

    async def table(self, sql: str, parameters: Mapping[str, Any]) -> pa.Table:
        """The whole result.

        Raises QueryInterrupted past the time limit, Overloaded and TooManyAtOnce as the gate, and what Query
        raises.
        """
        with step("query"):
            async with self._turn(self._computing), self._opened(sql, parameters) as query:
                return await self._run(query, query.table)

    async def batches(
        self, sql: str, parameters: Mapping[str, Any], *, rows: int
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """The result in batches of about `rows`; the time limit is for each of them.

        Raises as `table`. Close it when it is not read to its end.
        """
        async with self._turn(self._streams), self._opened(sql, parameters) as query:
            batches = query.batches(rows)
            while (batch := await self._next(query, batches)) is not None:
                yield batch

    def close(self) -> None:
        """Wait for what runs."""
        self._blocking.close()
        self._closing.close()

    @asynccontextmanager
    async def _opened(self, sql: str, parameters: Mapping[str, Any]) -> AsyncIterator[Query]:
        query = self._engine.query(sql, parameters)
        try:
            yield query
        finally:
            # Beside the event loop: to give memory back takes time. Nobody's leaving may stop it.
            await asyncio.shield(self._closing.run(query.close))

    @asynccontextmanager
    async def _turn(self, gate: AdmissionQueue) -> AsyncIterator[None]:
        async with AsyncExitStack() as entered:
            with self._metrics.waiting_for_turn():
                await entered.enter_async_context(gate.passed())
            yield

    async def _next(self, query: Query, batches: Any) -> pa.RecordBatch | None:
        async with self._turn(self._computing):
            return await self._run(query, lambda: next(batches, None))

    async def _run(self, query: Query, function: Callable[[], Result]) -> Result:
        with self._metrics.one_run():
            task = asyncio.create_task(self._blocking.run(function))
            try:
                await asyncio.wait({task}, timeout=self._seconds)
            finally:
                # Past its time, or nobody waits: the cursor is free only when the thread is out of it.
                while not task.done():
                    query.interrupt()
                    await asyncio.wait({task}, timeout=0.05)
                # A caller that has gone asks for no result; its error is not to be missed later.
                task.exception()
            return task.result()


def _gate(width: int, settings: EngineSettings, *, per_caller: int | None = None) -> AdmissionQueue:
    return AdmissionQueue(
        width=width,
        waiting=settings.max_queued_queries,
        seconds=settings.queue_timeout_seconds,
        per_caller=per_caller,
    )
