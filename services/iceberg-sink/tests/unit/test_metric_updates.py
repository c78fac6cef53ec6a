"""Batches and commits are counted as they pass; what waits is as old as the oldest record in hand."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from iceberg_sink.batches.batch_intake import Intake
from iceberg_sink.batches.batches import WrittenFiles
from iceberg_sink.commits.commit_batch import Step
from iceberg_sink.commits.metric_updates import Tally
from iceberg_sink.metrics import SinkMetrics
from k2common.columnar.record_batch import HEADER, FetchedBatch
from k2common.iceberg.commits.commit import CommitResult
from k2common.iceberg.commits.table_totals import Totals
from k2common.observability.metrics import CollectorRegistry
from k2common.schemas.datasets import QUOTES, TRADES
from k2common.testing.iceberg import first_version
from k2common.versions.hidden import HiddenUpload, Reason

TABLE = TRADES.table
NOW = 1_000.0


def batch(count: int, *, at: float) -> FetchedBatch:
    """A batch whose first record was written at `at`."""
    written = int(at * 1000)
    header = HEADER.pack(0, 0, 0, 2, 0, 0, count - 1, written, written, -1, -1, -1, count)
    return FetchedBatch(
        partition=0, base_offset=0, count=count, wanted_from=0, payload=memoryview(header + b"12345")
    )


SIZE = HEADER.size + 5


@dataclass
class Held:
    held: Sequence[FetchedBatch] = field(default=())


@dataclass
class File:
    file_size_in_bytes: int


class Read:
    def __init__(self) -> None:
        self.now = NOW
        self.registry = CollectorRegistry()
        self.metrics = SinkMetrics(self.registry, now=lambda: self.now)
        self.tally = Tally(TABLE, self.metrics)
        self.intake = Held()

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"table": TABLE, **labels})

    def came(self, *batches: FetchedBatch) -> None:
        self.tally.came(batches, cast(Intake, self.intake))

    def committed(self, step: Step, result: CommitResult) -> None:
        self.tally.committed(step, result, cast(Intake, self.intake))

    @property
    def lag(self) -> tuple[float | None, float | None]:
        return self("k2_records_held"), self("k2_records_waiting_seconds")


@pytest.fixture
def read() -> Read:
    return Read()


def result(**fields: Any) -> CommitResult:
    version = replace(first_version(TABLE, now=datetime(2026, 1, 1, tzinfo=UTC)), number=1)
    known = CommitResult(version=version, snapshot_id=1, metadata_location="m")
    return replace(known, **fields)


def test_what_waits_is_as_old_as_the_oldest_record_in_hand(read: Read) -> None:
    read.came(batch(3, at=990), batch(2, at=991))
    assert read.lag == (5, 10)
    read.intake.held = [batch(4, at=996)]
    read.now += 2
    read.came(batch(1, at=995))
    assert read.lag == (10, 12)
    read.committed(Step(offsets={}, came=True), result())
    assert read.lag == (5, 7)
    read.committed(Step(offsets={}), result())
    assert read.lag == (5, 7)
    read.committed(Step(offsets={}, came=True), result())
    assert read.lag == (4, 6)
    read.intake.held = []
    read.tally.tell(cast(Intake, read.intake))
    assert read.lag == (0, 0)
    assert read("k2_records_taken_total") == 6
    assert read("k2_records_taken_bytes_total") == 3 * SIZE


def test_records_wait_on_while_the_work_restarts(read: Read) -> None:
    read.came(batch(3, at=990))
    read.tally.begin()
    read.now += 30
    assert read("k2_records_waiting_seconds") == 40
    read.came(batch(3, at=990))
    read.committed(Step(offsets={}, came=True), result())
    assert read.lag == (0, 0)


def test_a_commit_is_counted_with_its_rows_files_tries_and_what_the_table_is_then(read: Read) -> None:
    hidden = {"U1": HiddenUpload(reason=Reason.LOADING), "U2": HiddenUpload(reason=Reason.LOADING)}
    totals = Totals(rows=100, files=7, bytes=9_000, removed=0, snapshots=5)
    written = WrittenFiles(
        rows=12, files=[File(30), File(12)], rows_redriven=2, newest_event=900.0, newest_ingest=995.0
    )
    first = result()
    step = Step(offsets={0: 12}, written=written, letters=cast(Any, ["letter"]))
    read.committed(
        step, replace(first, version=replace(first.version, hidden=hidden), totals=totals, tries=3)
    )
    late = WrittenFiles(rows=1, files=[File(1)], newest_event=800.0, newest_ingest=996.0)
    read.committed(Step(offsets={0: 13}, written=late), result())
    expected = {
        "k2_versions_committed_total": 2,
        "k2_versions_committed_rows_sum": 13,
        "k2_rows_committed_total": 13,
        "k2_files_committed_total": 3,
        "k2_files_committed_bytes_total": 43,
        "k2_messages_dead_lettered_total": 1,
        "k2_messages_redriven_total": 2,
        "k2_commits_conflicted_total": 2,
        "k2_snapshots_kept": 5,
        "k2_files_kept": 7,
        "k2_files_kept_bytes": 9_000,
        "k2_rows_kept": 100,
        "k2_rows_committed_event_age_seconds": 100,
        "k2_rows_committed_ingest_age_seconds": 4,
    }
    assert {name: read(name) for name in expected} == expected
    assert read("k2_uploads_hidden", reason="loading") == 0


def test_uploads_that_are_hidden_are_counted_by_the_reason(read: Read) -> None:
    first = result()
    hidden = {"U1": HiddenUpload(reason=Reason.LOADING), "U2": HiddenUpload(reason=Reason.RETRACTED)}
    read.committed(Step(offsets={}), replace(first, version=replace(first.version, hidden=hidden)))
    assert [read("k2_uploads_hidden", reason=r) for r in ("loading", "retracted", "failed")] == [1, 1, 0]


def test_failures_and_fences_are_counted(read: Read) -> None:
    read.tally.failed()
    read.tally.fenced()
    assert (read("k2_commits_failed_total"), read("k2_commits_fenced_total")) == (1, 1)


def test_of_a_table_that_another_replica_owns_nothing_more_is_said(read: Read) -> None:
    read.came(batch(3, at=990))
    read.metrics.behind.labels(TABLE).set(3)
    read.metrics.owned({TABLE})
    assert read.lag == (3, 10)
    read.metrics.owned({QUOTES.table})
    assert read.lag == (0, None)
    assert read("k2_records_waiting") == 0


def test_a_batch_says_when_it_was_written() -> None:
    with pytest.raises(struct.error):
        Read().came(replace(batch(1, at=1), payload=memoryview(b"short")))
