"""The loader's metrics; counted per transaction, after its commit."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class LoaderMetrics:
    """All metrics of the service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter(
            "k2_rows_loaded",
            "Rows by dataset and what became of them.",
            ["dataset", "outcome"],
            registry=registry,
        )
        self.chunks = Counter("k2_chunks_loaded", "Chunks whose rows are published.", registry=registry)
        self.bytes = Counter("k2_chunks_loaded_bytes", "Bytes of CSV in those chunks.", registry=registry)
        self.parse_seconds = Histogram(
            "k2_chunks_parsed_seconds",
            "Time to parse and encode the chunks of a transaction.",
            registry=registry,
        )
        self.publish_seconds = Histogram(
            "k2_chunks_published_seconds", "Time of a transaction.", registry=registry
        )
        self.partitions = Gauge("k2_partitions_owned", "Input partitions of this replica.", registry=registry)
        self.waiting = Gauge(
            "k2_chunks_waiting",
            "Messages between the last look and the log's end, by input partition.",
            ["partition"],
            registry=registry,
        )
