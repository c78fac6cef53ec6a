"""Writes the reference of the metrics from their declarations; `./task docs` runs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from csv_loader.metrics import LoaderMetrics
from iceberg_sink.metrics import MaintenanceMetrics, SinkMetrics
from ingest_gateway.metrics import GatewayMetrics
from k2common.http.metrics import RequestMetrics
from k2common.observability.metrics import CollectorRegistry, Declared, Label
from k2common.query.query_metrics import QueriesMetrics
from k2common.runtime.fault_metrics import FaultMetrics
from k2common.runtime.metrics import ServiceMetrics
from query_service.metrics import QueryMetrics
from replay_service.metrics import ReplayMetrics

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
HEAD = """# Metrics

Made from the code by `./task docs`. Every service gives its metrics at `/metrics`, from its first moment on. A histogram has the series `…_bucket`, `…_sum` and `…_count`. Metrics are counted per batch, commit, transaction or request, never per row, and no symbol, upload, user or path is ever the value of a label. A gauge of one replica says what this replica knows: take the largest over the replicas, or the sum where the replicas share the work (what waits, what is in hand).
"""  # noqa: E501 - a paragraph is a line
EVERY = "Every service"
ENGINE = "query-service and replay-service"
READERS = "Services that read tables"
SERVICES = ("ingest-gateway", "csv-loader", "iceberg-sink", "query-service", "replay-service")


def declared() -> Mapping[str, Sequence[Declared]]:
    """All metrics by the service that has them."""
    shared = ServiceMetrics(service="any").declared
    engine = QueriesMetrics(CollectorRegistry()).declared
    faults = FaultMetrics(CollectorRegistry()).declared
    return {
        EVERY: [*shared, *RequestMetrics(CollectorRegistry()).declared],
        "ingest-gateway": GatewayMetrics(CollectorRegistry()).declared,
        "csv-loader": LoaderMetrics(CollectorRegistry()).declared,
        "iceberg-sink": [
            *SinkMetrics(CollectorRegistry()).declared,
            *MaintenanceMetrics(CollectorRegistry()).declared,
        ],
        "query-service": QueryMetrics(CollectorRegistry()).declared,
        "replay-service": ReplayMetrics(CollectorRegistry()).declared,
        ENGINE: engine,
        READERS: faults,
    }


def page(sections: Mapping[str, Sequence[Declared]]) -> str:
    """The reference as Markdown."""
    return "\n".join([HEAD, *(line for name in sections for line in _section(name, sections[name]))])


def _section(name: str, metrics: Sequence[Declared]) -> Iterator[str]:
    yield f"## {name}\n"
    yield "| name | type | labels | unit | meaning | when to look at it |"
    yield "|---|---|---|---|---|---|"
    for metric in metrics:
        labels = "; ".join(map(_label, metric.labels))
        cells = (f"`{metric.name}`", metric.kind, labels, metric.unit, metric.meaning, metric.look)
        yield f"| {' | '.join(cells)} |"
    yield ""


def _label(label: Label) -> str:
    values = label.bound or ", ".join(f"`{value}`" for value in label.values)
    return f"`{label.name}`: {values}"


if __name__ == "__main__":
    PAGE.write_text(page(declared()), "utf-8")
    sys.stdout.write(f"{PAGE.name}\n")
