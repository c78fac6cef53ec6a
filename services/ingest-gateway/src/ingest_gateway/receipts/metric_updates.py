"""What a final receipt adds to the metrics, and what the gateway can tell whenever it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from k2common.domain.progress import Progress
from k2common.runtime.clock import Clock
from k2common.schemas.datasets import BULK_CHUNK_PARTITIONS

from ingest_gateway.body.spool import Spool
from ingest_gateway.claims.claims import Claim
from ingest_gateway.claims.publisher import Publisher
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.receipts.receipts import Settled
from ingest_gateway.receipts.tracker import Tracker
from ingest_gateway.uploads.reception import Reception

COUNTED = ("committed", "rejected", "filtered", "dead_lettered")


def count_final(
    metrics: GatewayMetrics,
    record: Mapping[str, Any],
    progress: Progress,
    end: Settled,
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


def tell(
    metrics: GatewayMetrics,
    *,
    spool: Spool,
    publisher: Publisher,
    reception: Reception,
    tracker: Tracker,
    clock: Clock,
) -> None:
    """From now on these say how they are whenever the metrics are asked for."""

    def oldest_seconds() -> float:
        oldest = tracker.oldest_open
        return 0.0 if oldest is None else _seconds(oldest, clock.now())

    metrics.receiving.source = lambda: {(): reception.places.taken}
    metrics.queued.source = lambda: {(): publisher.queued}
    metrics.spool_used.source = lambda: {(): spool.used_bytes()}
    metrics.spool_free.source = lambda: {(): spool.free_bytes()}
    metrics.quarantined.source = lambda: {(): spool.quarantined()}
    metrics.spool_reserved.source = lambda: {(): spool.limits.reserve_bytes}
    metrics.unfinished.source = lambda: {(): len(tracker.open)}
    metrics.oldest.source = lambda: {(): oldest_seconds()}
    metrics.unaccounted.source = lambda: tracker.conservation.unaccounted(clock.now())
    metrics.conserved.source = lambda: tracker.conservation.terms(clock.now())


def _seconds(start: datetime, stop: datetime) -> float:
    # Two machines' clocks may differ.
    return max(0.0, (stop - start).total_seconds())
