"""The loader's metrics; counted per transaction, after its commit."""

from __future__ import annotations

import time
from collections.abc import Callable

from k2common.layouts.faults import CODES
from k2common.observability.metrics import (
    DATASET,
    ROWS,
    SECONDS,
    CollectorRegistry,
    Declarations,
    Label,
)
from k2common.schemas.datasets import CHUNK_PARTITIONS, MARKET_DATASETS

MARKET = Label(name="dataset", values=tuple(MARKET_DATASETS))
PARTITION = Label(name="partition", values=tuple(map(str, range(CHUNK_PARTITIONS))))


class LoaderMetrics:
    """All metrics of the service."""

    def __init__(self, registry: CollectorRegistry, *, now: Callable[[], float] = time.time) -> None:
        made = Declarations(registry, now=now)
        self.rows = made.counter(
            "k2_rows_loaded",
            "Rows by dataset and what became of them.",
            look="The loader's throughput; the share of `rejected` is the quality of the files.",
            labels=[MARKET, Label(name="outcome", values=("accepted", "rejected", "filtered"))],
        )
        self.rejected = made.counter(
            "k2_rows_rejected",
            "Rows refused, by the code of their first fault.",
            look="A code that grows: a feed has changed its form; see the [codes](rejects.md).",
            labels=[MARKET, Label(name="code", values=CODES)],
        )
        self.published_bytes = made.counter(
            "k2_rows_published_bytes",
            "Bytes of the record batches written, packed; rejects are a dataset too.",
            look="What goes into Kafka.",
            labels=[DATASET],
        )
        self.chunks = made.counter(
            "k2_chunks_loaded",
            "Chunks whose rows are published, without the terminal ones.",
            look="Beside the gateway's `k2_chunks_published_total`: it keeps up when both grow alike.",
        )
        self.bytes = made.counter(
            "k2_chunks_loaded_bytes", "Bytes of CSV in those chunks.", look="What comes out of Kafka."
        )
        self.isolated = made.counter(
            "k2_chunks_isolated",
            "Chunks parsed in a process of their own, since work on them had not ended twice.",
            look="Above 0: a chunk ends its parser, or the loader is killed again and again.",
        )
        self.expired = made.counter(
            "k2_uploads_expired",
            "Uploads that failed because Kafka had deleted chunks before they were loaded.",
            look="Above 0: the loader was unavailable for longer than `ingest.chunks` keeps; reload them.",
        )
        self.parse_seconds = made.histogram(
            "k2_chunks_parsed_seconds",
            "Time to parse and encode a chunk.",
            look="Grows with a layout that is slow to read, or without free processors.",
            buckets=SECONDS,
        )
        self.load_seconds = made.histogram(
            "k2_chunks_loaded_seconds",
            "Time of a transaction: rows, rejects, statuses and the position.",
            look="Grows when Kafka is slow.",
            buckets=SECONDS,
        )
        self.batch_chunks = made.histogram(
            "k2_batches_loaded_chunks",
            "Chunks of a transaction.",
            look="At `K2_LOADER__CHUNKS_PER_TRANSACTION` all the time: there is more than is taken at once.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )
        self.batch_rows = made.histogram(
            "k2_batches_loaded_rows", "Rows of a transaction.", look="With its time.", buckets=ROWS
        )
        self.partitions = made.gauge(
            "k2_partitions_owned",
            "Input partitions of this replica.",
            look="Their sum over all replicas is 4; less while the group moves them.",
        )
        self.waiting = made.gauge(
            "k2_chunks_waiting",
            "Chunks that came and are not loaded, as the newest fetch told, by input partition.",
            look="Grows: the loader is slower than what comes; see also its seconds.",
            labels=[PARTITION],
        )
        self.waiting_seconds = made.aged(
            "k2_chunks_waiting_seconds",
            "Age of the oldest chunk in hand that is not loaded; 0 when none waits.",
            look="The loader's lag as users feel it.",
            labels=[PARTITION],
        )
        self.stalled_seconds = made.aged(
            "k2_partitions_stalled_seconds",
            "Time since an input partition that has chunks waiting loaded one; 0 when none waits.",
            look="Above minutes: a chunk hangs in its parse, or its work fails again and again.",
            labels=[PARTITION],
        )
        self.declared = made.all
