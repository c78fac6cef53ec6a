"""The replay service's metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from k2common.observability.metrics import CollectorRegistry, Declarations, Label


class ReplayMetrics:
    """All metrics of the service beside those of the engine and of every HTTP service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        made = Declarations(registry)
        self.rows = made.counter(
            "k2_rows_replayed",
            "Rows streamed, counted part by part.",
            look="Its rate is the speed of all replays together.",
        )
        self.bytes = made.counter(
            "k2_rows_replayed_bytes", "Bytes of those rows as they were sent.", look="What goes out."
        )
        self.streams = made.gauge("k2_replays_streamed", "Streams that are open.", look="Who reads now.")
        self.sessions = made.counter("k2_replays_created", "Sessions created.", look="What is asked for.")
        self.finished = made.counter(
            "k2_replays_finished",
            "Streams by how they ended.",
            look="`interrupted`: the client left, or the warehouse or a limit ended the stream.",
            labels=[Label(name="outcome", values=("completed", "interrupted"))],
        )
        self.declared = made.all

    @contextmanager
    def one_stream(self) -> Iterator[None]:
        """Around a stream."""
        outcome = "interrupted"
        try:
            with self.streams.track_inprogress():
                yield
            outcome = "completed"
        finally:
            self.finished.labels(outcome).inc()
