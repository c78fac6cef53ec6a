"""What a final receipt adds to the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from k2common.domain.progress import Progress
from k2common.schemas.datasets import BULK_CHUNK_PARTITIONS

from ingest_gateway.claims.claims import Claim
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.receipts.receipts import UploadOutcome

COUNTED = ("committed", "rejected", "filtered", "dead_lettered")


def count_final(
    metrics: GatewayMetrics,
    record: Mapping[str, Any],
    progress: Progress,
    end: UploadOutcome,
    *,
    claim: Claim,
    published_at: datetime | None,
) -> None:
    """Count the final receipt `record` of an upload that ended so."""
    metrics.finished.labels(end.outcome).inc()
    rows = {name: record[f"rows_{name}"] for name in COUNTED}
    withheld = record["rows_read"] - sum(rows.values())
    for name, count in {**rows, "withheld": max(0, withheld)}.items():
        metrics.rows.labels(name).inc(count)
    received = claim.upload.received_at
    shown = max((v.committed_at for v in (end.table, end.rejects) if v is not None), default=None)
    if end.outcome == "committed" and shown is not None:
        size = "bulk" if claim.chunk_partition in BULK_CHUNK_PARTITIONS else "small"
        metrics.committed_seconds.labels(size).observe(_seconds(received, shown))
    moments = (received, published_at, progress.parsed_at, shown)
    for phase, start, stop in zip(("publish", "load", "commit"), moments, moments[1:], strict=False):
        if start is not None and stop is not None:
            metrics.phase_seconds.labels(phase).observe(_seconds(start, stop))


def _seconds(start: datetime, stop: datetime) -> float:
    # Two machines' clocks may differ.
    return max(0.0, (stop - start).total_seconds())
