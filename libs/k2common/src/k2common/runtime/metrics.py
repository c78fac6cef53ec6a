"""Metrics of every process, and those of the engine's queries in the services that have one."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version

from prometheus_client import ProcessCollector

from k2common.observability.metrics import SECONDS, CollectorRegistry, Declarations, Declared, Label

START = "start"
PART = Label(name="part", values=(START, "kafka group", "sessions", "statuses", "topics", "versions"))
WORK = Label(name="work", bound="the service's loops, a table's or partition's work, and `start`")
PROCESS = (
    Declared(
        name="process_cpu_seconds_total",
        kind="counter",
        meaning="Processor time used.",
        look="Its rate is the cores in use.",
    ),
    Declared(
        name="process_resident_memory_bytes",
        kind="gauge",
        meaning="Memory in use.",
        look="Grows without end, or comes near the container's limit.",
    ),
    Declared(
        name="process_virtual_memory_bytes",
        kind="gauge",
        meaning="Address space.",
        look="Seldom; resident memory says more.",
    ),
    Declared(
        name="process_start_time_seconds",
        kind="gauge",
        meaning="When the process began, as Unix time.",
        look="A change is a restart.",
    ),
    Declared(
        name="process_open_fds",
        kind="gauge",
        meaning="Open files and connections.",
        look="Comes near `process_max_fds`.",
    ),
    Declared(
        name="process_max_fds",
        kind="gauge",
        meaning="So many may be open.",
        look="Beside `process_open_fds`.",
    ),
)


class ServiceMetrics:
    """What every process says of itself, from its first moment on.

    They are in a registry of their own, which outlives the service's tries to start.
    """

    def __init__(self, *, service: str, package: str) -> None:
        self.registry = CollectorRegistry()
        made = Declarations(self.registry)
        ProcessCollector(registry=self.registry)
        build = made.scraped(
            "k2_build_info",
            "Always 1; the labels say what runs.",
            look="After a roll-out: which versions run side by side.",
            labels=[
                Label(name="service", bound="the service's name"),
                Label(name="version", bound="the package's version"),
                Label(name="python", bound="the interpreter's version"),
            ],
        )
        build.source = lambda: {(service, version(package), platform.python_version()): 1}
        self.blocked = made.scraped(
            "k2_service_blocked",
            "1 while a part of the service cannot work, 0 once it can; the service is ready when all are 0.",
            look="Stays 1: `/readyz` says why; `start` waits for a neighbour.",
            labels=[PART],
        )
        self.retried = made.counter(
            "k2_works_retried",
            "Times that work was begun anew after a neighbour failed.",
            look="Grows all the time: Kafka, the registry, the catalogue or the warehouse is away.",
            labels=[WORK],
        )
        self.declared = [*PROCESS, *made.all]

    def tell_blocked(self, parts: Mapping[str, bool]) -> None:
        """Say for each part whether it cannot work."""
        self.blocked.source = lambda: {(part,): float(blocked) for part, blocked in parts.items()}


class QueriesMetrics:
    """The engine's queries: how they wait, run and end, and the memory that they take."""

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
            look="`interrupted` is a time limit or a client that left, `too_large` a memory limit.",
            labels=[
                Label(
                    name="outcome",
                    values=("answered", "interrupted", "too_large", "out_of_range", "unavailable"),
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
            look="Times `K2_ENGINE__MEMORY_MEGABYTES` it is what the engine may take.",
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
