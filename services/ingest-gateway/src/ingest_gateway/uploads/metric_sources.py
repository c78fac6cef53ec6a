"""The metrics that are read from the gateway's own objects whenever they are asked for."""

from __future__ import annotations

from k2common.runtime.clock import Clock

from ingest_gateway.body.spool import Spool
from ingest_gateway.claims.publisher import Publisher
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.receipts.tracker import Tracker
from ingest_gateway.uploads.reception import Reception


def set_metric_sources(
    metrics: GatewayMetrics,
    *,
    spool: Spool,
    publisher: Publisher,
    reception: Reception,
    tracker: Tracker,
    clock: Clock,
) -> None:
    """Have each scrape read the present state of these."""

    def oldest_seconds() -> float:
        oldest = tracker.oldest_open
        return 0.0 if oldest is None else max(0.0, (clock.now() - oldest).total_seconds())

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
