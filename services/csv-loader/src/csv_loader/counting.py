"""What a transaction adds to the metrics, and how far a partition's work lags."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from k2common.schemas.datasets import DATASETS

from csv_loader.metrics import LoaderMetrics
from csv_loader.processing import Processed

OF_TOPIC = {dataset.topic.name: dataset.name for dataset in DATASETS.values()}


def count(chunks: Sequence[Processed], metrics: LoaderMetrics) -> None:
    """Count the chunks of a transaction that is committed."""
    for processed in chunks:
        dataset = processed.chunk.upload.dataset
        rows = metrics.rows.labels
        rows(dataset, "accepted").inc(processed.rows_accepted)
        rows(dataset, "rejected").inc(processed.rows_rejected)
        rows(dataset, "filtered").inc(processed.rows_filtered)
        for (_, code), number in processed.errors.items():
            metrics.rejected.labels(dataset, code).inc(number)
        for output in processed.outputs:
            size = sum(len(batch.payload) for batch in output.batches)
            metrics.published_bytes.labels(OF_TOPIC[output.topic]).inc(size)
        metrics.bytes.inc(processed.chunk.message["length"])
        metrics.chunks.inc(not processed.chunk.message["terminal"])
    metrics.batch_chunks.observe(len(chunks))
    metrics.batch_rows.observe(sum(processed.rows_read for processed in chunks))


class Lag:
    """Reports how many chunks of a partition wait, how old the oldest in hand is, and any lack of progress.

    `now` gives Unix seconds.
    """

    def __init__(self, partition: int, *, metrics: LoaderMetrics, now: Callable[[], float]) -> None:
        self._partition = str(partition)
        self._metrics = metrics
        self._oldest: deque[float] = deque()
        self._interrupted: float | None = None
        """The oldest chunk that was in hand when the work failed; it waits on."""
        self._now = now
        self._loaded_at = 0.0
        """When chunks were loaded last. A new owner does not know: the age of the oldest chunk counts."""

    def came(self, messages: Sequence[Any], *, beyond: int) -> None:
        """A batch of Kafka's messages was taken, and `beyond` it there are others."""
        self._oldest.append(messages[0].timestamp / 1000)
        self._metrics.waiting.labels(self._partition).set(len(messages) + beyond)
        self._tell()

    def loaded(self) -> None:
        """The batch that came first is loaded."""
        self._oldest.popleft()
        self._interrupted = None
        self._loaded_at = self._now()
        self._tell()

    def nothing_came(self) -> None:
        """The log's end is reached."""
        self._interrupted = None
        self._metrics.waiting.labels(self._partition).set(0)
        self._tell()

    def fail(self) -> None:
        """The work failed and will be tried again: a partition without progress must not look idle."""
        if self._oldest and self._interrupted is None:
            self._interrupted = self._oldest[0]
        self._oldest.clear()
        self._tell()

    def end(self) -> None:
        """From now on another replica tells."""
        self._oldest.clear()
        self._interrupted = None
        self._metrics.waiting.labels(self._partition).set(0)
        self._metrics.waiting_seconds.forget(self._partition)
        self._metrics.stalled_seconds.forget(self._partition)

    def _tell(self) -> None:
        moments = [*([] if self._interrupted is None else [self._interrupted]), *self._oldest]
        oldest = min(moments, default=None)
        self._metrics.waiting_seconds.since(oldest, self._partition)
        # An idle partition makes no progress and needs none.
        stalled_since = None if oldest is None else max(oldest, self._loaded_at)
        self._metrics.stalled_seconds.since(stalled_since, self._partition)
