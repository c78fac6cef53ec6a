"""A final receipt is counted by its outcome, its rows, its times and its phases."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ingest_gateway.body.limits import Limits
from ingest_gateway.body.spool import Spool
from ingest_gateway.claims.claims import Claim
from ingest_gateway.claims.publisher import Publisher
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.receipts.metric_updates import count_final
from ingest_gateway.receipts.receipts import UploadOutcome
from ingest_gateway.receipts.tracker import Tracker
from ingest_gateway.uploads.metric_sources import set_metric_sources
from ingest_gateway.uploads.reception import Reception
from k2common.domain.progress import Progress
from k2common.layouts.upload import UploadSpec
from k2common.observability.metrics import CollectorRegistry
from k2common.runtime.blocking import Blocking
from k2common.schemas.datasets import BULK_CHUNK_PARTITIONS, TRADES
from k2common.testing.iceberg import first_version

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UPLOAD = "01M86KAY8WBQN4BGJ0DGREQQCB"


class Clock:
    later = 30

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.later)


class Queue:
    queued = 3


class Bodies:
    places = SimpleNamespace(taken=2)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def claim() -> Claim:
    spec = UploadSpec(
        upload_id=UPLOAD,
        dataset="trades",
        layout="k2",
        layout_json="{}",
        source="s",
        bytes=1,
        sha256="x",
        received_at=NOW,
    )
    return Claim(
        upload=spec,
        identity="i",
        idempotency_key=None,
        state="published",
        replica="0",
        next_chunk=0,
        next_byte=0,
        next_line=1,
        header=None,
        chunk_partition=0,
        updated_at=NOW,
    )


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def rows(**counts: int) -> Mapping[str, Any]:
    names = ("read", "committed", "rejected", "filtered", "dead_lettered")
    return {f"rows_{name}": counts.get(name, 0) for name in names}


def test_a_committed_upload_is_timed_by_size_and_phase(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry)
    progress = Progress(upload_id=UPLOAD, dataset="trades", parsed_at=at(3))
    shown = replace(first_version(TRADES.table), committed_at=at(7))
    end = UploadOutcome(outcome="committed", table=shown, rejects=None)
    bulk = replace(claim(), chunk_partition=BULK_CHUNK_PARTITIONS[0])
    record = rows(read=10, committed=6, rejected=2, filtered=1, dead_lettered=1)
    for one in (claim(), bulk):
        count_final(metrics, record, progress, end, claim=one, published_at=at(1))
    for size in ("small", "bulk"):
        assert registry.get_sample_value("k2_uploads_committed_seconds_sum", {"size": size}) == 7
    for phase, seconds in (("publish", 1), ("load", 2), ("commit", 4)):
        assert registry.get_sample_value("k2_phases_finished_seconds_sum", {"phase": phase}) == 2 * seconds
    for outcome, count in (("committed", 12), ("rejected", 4), ("dead_lettered", 2), ("withheld", 0)):
        assert registry.get_sample_value("k2_rows_finished_total", {"outcome": outcome}) == count
    assert registry.get_sample_value("k2_uploads_finished_total", {"outcome": "committed"}) == 2


def test_rows_of_an_upload_that_failed_are_withheld(registry: CollectorRegistry) -> None:
    metrics = GatewayMetrics(registry)
    progress = Progress(upload_id=UPLOAD, dataset="trades", parsed_at=at(3))
    end = UploadOutcome(outcome="failed", table=None, rejects=None)
    count_final(metrics, rows(read=10, rejected=1), progress, end, claim=claim(), published_at=None)
    assert registry.get_sample_value("k2_rows_finished_total", {"outcome": "withheld"}) == 9
    assert registry.get_sample_value("k2_uploads_finished_total", {"outcome": "failed"}) == 1
    assert registry.get_sample_value("k2_uploads_committed_seconds_count", {"size": "small"}) is None


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    blocking = Blocking(workers=1)
    yield Spool(tmp_path, limits=Limits(content_bytes=1, line_bytes=1, reserve_bytes=77), blocking=blocking)
    blocking.close()


def test_queues_disk_and_the_oldest_upload_are_told_as_they_are_then(
    registry: CollectorRegistry, spool: Spool, tmp_path: Path
) -> None:
    clock = cast(Any, Clock())
    tracker = Tracker(clock)
    set_metric_sources(
        GatewayMetrics(registry),
        spool=spool,
        publisher=cast(Publisher, Queue()),
        reception=cast(Reception, Bodies()),
        tracker=tracker,
        clock=clock,
    )
    assert registry.get_sample_value("k2_uploads_unfinished_oldest_seconds") == 0
    tracker.on_claim(claim().to_avro())
    (tmp_path / "body").write_bytes(b"12345")
    expected = {
        "k2_uploads_unfinished_oldest_seconds": 30,
        "k2_uploads_unfinished": 1,
        "k2_uploads_queued": 3,
        "k2_uploads_receiving": 2,
        "k2_spool_used_bytes": 5,
        "k2_spool_reserved_bytes": 77,
    }
    assert {name: registry.get_sample_value(name) for name in expected} == expected
    assert (registry.get_sample_value("k2_spool_free_bytes") or 0) > 0
    version = replace(first_version(TRADES.table), number=1)
    tracker.on_commit({"rows": 4, "rows_removed": 0}, version)
    assert registry.get_sample_value("k2_rows_unaccounted", {"table": TRADES.table}) is None
    tracker.conservation.begin(since=None)
    clock.later = 60
    assert registry.get_sample_value("k2_rows_unaccounted", {"table": TRADES.table}) == -4
    labels = {"table": TRADES.table, "term": "committed"}
    assert registry.get_sample_value("k2_rows_conserved", labels) == 4
