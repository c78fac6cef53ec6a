"""The query service's metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class QueryMetrics:
    """All metrics of the service beside those of every HTTP service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter("k2_rows_answered", "Rows given, by dataset.", ["dataset"], registry=registry)
