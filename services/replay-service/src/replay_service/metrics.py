"""The replay service's metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class ReplayMetrics:
    """All metrics of the service beside those of every HTTP service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter("k2_rows_replayed", "Rows streamed.", registry=registry)
        self.streams = Gauge("k2_replays_streamed", "Streams that are open.", registry=registry)
        self.sessions = Counter("k2_replays_created", "Sessions created.", registry=registry)
