"""The gateway's metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class GatewayMetrics:
    """All metrics of the service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.received = Counter(
            "k2_uploads_received", "Bodies received whole, by what they were.", ["outcome"], registry=registry
        )
        self.received_bytes = Counter(
            "k2_uploads_received_bytes", "Bytes of those bodies.", registry=registry
        )
        self.chunks = Counter("k2_chunks_published", "Chunks published.", registry=registry)
        self.publish_seconds = Histogram(
            "k2_chunks_published_seconds", "Time of a transaction of chunks.", registry=registry
        )
        self.finished = Counter(
            "k2_uploads_finished", "Final receipts published, by outcome.", ["outcome"], registry=registry
        )
        self.rows = Counter(
            "k2_rows_finished",
            "Rows of final receipts by what became of them.",
            ["outcome"],
            registry=registry,
        )
        self.unfinished = Gauge(
            "k2_uploads_unfinished", "Uploads without a final receipt.", registry=registry
        )
