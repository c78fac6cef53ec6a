"""What one table's work adds to the metrics: all of it is at hand with a batch or a commit."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from k2common.columnar.record_batch import FetchedBatch, written_seconds
from k2common.iceberg.commits.commit import CommitResult
from k2common.versions.hidden import Reason

from iceberg_sink.batches.batch_intake import Intake
from iceberg_sink.commits.commit_batch import Step
from iceberg_sink.metrics import SinkMetrics


class Tally:
    """Counts for one owner of a table's partitions; `begin` it whenever the work restarts."""

    def __init__(self, table: str, metrics: SinkMetrics) -> None:
        self._table = table
        self._metrics = metrics
        self._pending: deque[tuple[int, float]] = deque()
        self._newest_event = self._newest_ingest = float("-inf")

    def begin(self) -> None:
        """Nothing is in hand. How long records have waited stays as it was until some are."""
        self._pending.clear()

    def came(self, batches: Sequence[FetchedBatch], intake: Intake) -> None:
        """These batches will be one commit; the intake holds what comes after them."""
        records = sum(batch.count for batch in batches)
        self._metrics.taken.labels(self._table).inc(records)
        self._metrics.taken_bytes.labels(self._table).inc(sum(len(batch.payload) for batch in batches))
        self._pending.append((records, min(written_seconds(batch.payload) for batch in batches)))
        self.tell(intake)

    def tell(self, intake: Intake) -> None:
        """Say what is in hand."""
        held = intake.held
        records = sum(count for count, _ in self._pending) + sum(batch.count for batch in held)
        self._metrics.held.labels(self._table).set(records)
        oldest = [since for _, since in self._pending] + [written_seconds(b.payload) for b in held[:1]]
        self._metrics.waiting_seconds.since(min(oldest, default=None), self._table)

    def committed(self, step: Step, result: CommitResult, intake: Intake) -> None:
        """The step is in the table."""
        metrics, table, written = self._metrics, self._table, step.written
        metrics.commits.labels(table).inc()
        metrics.commit_rows.labels(table).observe(written.rows)
        metrics.rows.labels(table).inc(written.rows)
        metrics.files.labels(table).inc(len(written.files))
        metrics.file_bytes.labels(table).inc(sum(file.file_size_in_bytes for file in written.files))
        metrics.dead_letters.labels(table).inc(len(step.letters))
        if step.strays:
            metrics.strayed.labels(table).inc(step.strays)
        metrics.redriven.labels(table).inc(written.rows_redriven)
        metrics.conflicted.labels(table).inc(result.tries - 1)
        metrics.tell_contents(table, result.totals)
        reasons = Counter(entry.reason for entry in result.version.hidden.values())
        for reason in Reason:
            metrics.hidden.labels(table, reason).set(reasons[reason])
        if written.newest_event is not None:
            self._newest_event = max(self._newest_event, written.newest_event)
            metrics.event_age.since(self._newest_event, table)
        if written.newest_ingest is not None:
            self._newest_ingest = max(self._newest_ingest, written.newest_ingest)
            metrics.ingest_age.since(self._newest_ingest, table)
        if step.came and self._pending:
            self._pending.popleft()
        self.tell(intake)

    def failed(self) -> None:
        """A commit was given up."""
        self._metrics.failed.labels(self._table).inc()

    def fenced(self) -> None:
        """Another owner was faster."""
        self._metrics.fenced.labels(self._table).inc()
