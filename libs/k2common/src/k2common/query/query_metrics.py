"""Metrics of the engine's queries: how they wait, run and end, and the memory that they take."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from k2common.engine.connection import EngineUse, QueryInterrupted, QueryTooLarge, ValueOutOfRange
from k2common.errors import DataDamaged, DataMissing, TransientError
from k2common.observability.metrics import SECONDS, CollectorRegistry, Declarations, Label, Series
from k2common.query.admission import Overloaded, TooManyAtOnce

OUTCOMES: Mapping[type[BaseException], str] = {
    QueryInterrupted: "interrupted",
    CancelledError: "cancelled",
    QueryTooLarge: "too_large",
    ValueOutOfRange: "out_of_range",
    DataDamaged: "damaged",
    DataMissing: "missing",
    TransientError: "unavailable",
}


class QueriesMetrics:
    """All of them, in the services that have an engine."""

    def __init__(self, registry: CollectorRegistry) -> None:
        made = Declarations(registry)
        self.waited = made.histogram(
            "k2_queries_waited_seconds",
            "Time that a query, or the next part of a stream, waited for its turn.",
            look="Grows: more is asked than `K2_ENGINE__CONCURRENT_QUERIES` can run.",
            buckets=SECONDS,
        )
        self.run = made.histogram(
            "k2_queries_run_seconds",
            "Time that the engine worked on a query, or on the next part of a stream.",
            look="Beside the time of the endpoints: what is the engine's share.",
            buckets=SECONDS,
        )
        self.finished = made.counter(
            "k2_queries_finished",
            "Queries and parts of streams, by how they ended.",
            look="`interrupted` is a time limit, `cancelled` a client that left, `too_large` a memory limit; "
            "`unavailable` the warehouse, `damaged` and `missing` a data file.",
            labels=[
                Label(
                    name="outcome",
                    values=("answered", *OUTCOMES.values(), "failed"),
                )
            ],
        )
        self.refused = made.counter(
            "k2_queries_refused",
            "Queries that were not begun.",
            look="`overloaded`: all wait; `too_many`: one caller has more than its part waiting.",
            labels=[Label(name="reason", values=("overloaded", "too_many"))],
        )
        self.running = made.scraped(
            "k2_queries_running",
            "Queries that the engine works on.",
            look="Stays at `K2_ENGINE__CONCURRENT_QUERIES`: the service is full.",
        )
        self.waiting = made.scraped(
            "k2_queries_waiting", "Queries that wait for their turn.", look="The queue's depth."
        )
        self.streams = made.scraped(
            "k2_streams_running",
            "Streams that are open.",
            look="Stays at `K2_ENGINE__OPEN_STREAMS`: slow readers keep others out.",
        )
        self.databases = made.scraped(
            "k2_databases_opened",
            "Databases of the engine, one for each query that ran at the same time.",
            look="Together they may take `K2_ENGINE__TOTAL_MEMORY_MEGABYTES`.",
        )
        self.used = made.scraped(
            "k2_engine_used_bytes",
            "Memory that the engine's databases hold, as they say.",
            look="Comes near `k2_engine_allowed_bytes`: queries spill or are refused as too large.",
        )
        self.allowed = made.scraped(
            "k2_engine_allowed_bytes", "Memory that these may hold.", look="Beside `k2_engine_used_bytes`."
        )
        self.spilled = made.scraped(
            "k2_engine_spilled_bytes",
            "What the engine's databases have put on disk for lack of memory.",
            look="Above 0 for long: large sorts; give queries more memory.",
        )
        self.declared = made.all

    def tell_use(self, use: Callable[[], EngineUse]) -> None:
        """What the engine's databases hold is asked of `use`, once for all that is said of it."""
        known = use()

        def asked() -> Series:
            nonlocal known
            known = use()
            return {(): known.databases}

        self.databases.source = asked
        self.used.source = lambda: {(): known.used}
        self.allowed.source = lambda: {(): known.allowed}
        self.spilled.source = lambda: {(): known.spilled}

    @contextmanager
    def waiting_for_turn(self) -> Iterator[None]:
        """Around the wait of a query."""
        try:
            with self.waited.time():
                yield
        except TooManyAtOnce:
            self.refused.labels("too_many").inc()
            raise
        except Overloaded:
            self.refused.labels("overloaded").inc()
            raise

    @contextmanager
    def one_run(self) -> Iterator[None]:
        """Around the engine's work."""
        outcome = "answered"
        try:
            with self.run.time():
                yield
        # A cancelled run has its outcome too; the error goes on.
        except BaseException as error:
            outcome = next((name for kind, name in OUTCOMES.items() if isinstance(error, kind)), "failed")
            raise
        finally:
            self.finished.labels(outcome).inc()
