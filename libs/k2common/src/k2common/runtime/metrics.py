"""Metrics of every process."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version

from prometheus_client import ProcessCollector

from k2common.observability.metrics import (
    CollectorRegistry,
    Declarations,
    Declared,
    Label,
)
from k2common.schemas.datasets import TOPICS

START = "start"
PART = Label(name="part", values=(START, "kafka group", "sessions", "statuses", "topics", "versions"))
TOPIC = Label(name="topic", values=tuple(topic.name for topic in TOPICS))
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

    def __init__(self, *, service: str) -> None:
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
        build.source = lambda: {(service, version("k2common"), platform.python_version()): 1}
        self._blocked = made.scraped(
            "k2_service_blocked",
            "1 while a part of the service cannot work, 0 once it can; the service is ready when all are 0.",
            look="Stays 1: `/readyz` says why; `start` waits for a dependency.",
            labels=[PART],
        )
        self._retried = made.counter(
            "k2_works_retried",
            "Times that work was restarted after a dependency failed.",
            look="Grows all the time: Kafka, the registry, the catalogue or the warehouse is unavailable.",
            labels=[WORK],
        )
        self._skipped = made.counter(
            "k2_messages_skipped",
            "Messages that this process could not decode or use, and passed; each start counts them again.",
            look="Above 0: something else than this project's services writes to the topic.",
            labels=[TOPIC],
        )
        # There from the first moment on, so that its first growth is seen.
        self._retried.labels(START)
        self.declared = [*PROCESS, *made.all]

    def with_others(self) -> CollectorRegistry:
        """A registry for one try to start, which gives these metrics too."""
        registry = CollectorRegistry()
        registry.register(self.registry)
        return registry

    def report_parts(self, parts: Callable[[], Mapping[str, bool]]) -> None:
        """Whether each part of the service works is asked of `parts`."""
        self._blocked.source = lambda: {(part,): float(not works) for part, works in parts().items()}

    def skipped(self, topic: str) -> None:
        """Count a message of `topic` that was passed."""
        self._skipped.labels(topic).inc()

    def retried(self, work: str) -> None:
        """Count that work is restarted."""
        self._retried.labels(work).inc()
