"""The gateway's metrics."""

from __future__ import annotations

from k2common.observability.metrics import LONG_SECONDS, SECONDS, CollectorRegistry, Declarations, Label
from k2common.schemas.datasets import MARKET_DATASETS, REJECTS

LOADED = Label(name="table", values=(*(d.table for d in MARKET_DATASETS.values()), REJECTS.table))
OUTCOME = Label(name="outcome", values=("committed", "failed", "cancelled"))
TERMS = ("stated", "uncommitted", "committed", "dead_lettered", "redriven")


class GatewayMetrics:
    """All metrics of the service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        made = Declarations(registry)
        self._bodies(made)
        self._chunks(made)
        self._uploads(made)
        self._conservation(made)
        self.declared = made.all

    def _bodies(self, made: Declarations) -> None:
        self.received = made.counter(
            "k2_uploads_received",
            "Bodies received whole; `known` are those of uploads that there were already.",
            look="What clients send; many `known` ones: a client repeats itself.",
            labels=[Label(name="outcome", values=("new", "known"))],
        )
        self.received_bytes = made.counter(
            "k2_uploads_received_bytes", "Bytes of those bodies, unpacked.", look="What comes in."
        )
        self.receiving = made.scraped(
            "k2_uploads_receiving",
            "Bodies that are being received.",
            look="At `K2_GATEWAY__MAX_RECEIVING` one more is refused with 429.",
        )
        self.spool_used = made.scraped(
            "k2_spool_used_bytes",
            "Bytes of bodies in the spool of this replica.",
            look="Grows: chunks are not published, Kafka is unavailable or slow.",
        )
        self.spool_free = made.scraped(
            "k2_spool_free_bytes",
            "Free bytes of the disk that the spool is on.",
            look="Comes near `k2_spool_reserved_bytes`: bodies are about to be refused with 507.",
        )
        self.quarantined = made.scraped(
            "k2_spool_quarantined_bodies",
            "Bodies in the spool's quarantine: no claim in Kafka could be made for them.",
            look="Above 0: an upload was accepted and waits for a person to decide.",
        )
        self.reclaimed = made.counter(
            "k2_uploads_reclaimed",
            "Accepted uploads whose claim Kafka had lost, claimed again from the spool at a start.",
            look="Above 0: the broker rolled back what it had acknowledged; nothing was lost here.",
        )
        self.spool_reserved = made.scraped(
            "k2_spool_reserved_bytes",
            "With less free disk a body is refused.",
            look="Beside `k2_spool_free_bytes`.",
        )

    def _chunks(self, made: Declarations) -> None:
        self.queued = made.scraped(
            "k2_uploads_queued",
            "Uploads of this replica that wait for a publisher.",
            look="Grows: more comes than `K2_GATEWAY__CONCURRENT_UPLOADS` publish.",
        )
        self.chunks = made.counter(
            "k2_chunks_published",
            "Chunks published, without the terminal ones.",
            look="The gateway's throughput.",
        )
        self.chunk_bytes = made.counter(
            "k2_chunks_published_bytes", "Bytes of CSV in those chunks.", look="What goes out."
        )
        self.packed_bytes = made.counter(
            "k2_chunks_packed_bytes", "The same chunks packed, as Kafka holds them.", look="Kafka's disk."
        )
        self.publish_seconds = made.histogram(
            "k2_chunks_published_seconds",
            "Time of a transaction of chunks.",
            look="Grows when Kafka is slow.",
            buckets=SECONDS,
        )

    def _uploads(self, made: Declarations) -> None:
        self.finished = made.counter(
            "k2_uploads_finished",
            "Final receipts published, by outcome.",
            look="The share of `failed`.",
            labels=[OUTCOME],
        )
        self.committed_seconds = made.histogram(
            "k2_uploads_committed_seconds",
            "Time from the last byte of a body to the version that shows its rows.",
            look="What a user waits for; uploads from `K2_GATEWAY__BULK_BYTES` on are `bulk`.",
            buckets=LONG_SECONDS,
            labels=[Label(name="size", values=("small", "bulk"))],
        )
        self.phase_seconds = made.histogram(
            "k2_phases_finished_seconds",
            "The same time by phase, of uploads however they ended.",
            look="Who is slow: the gateway (`publish`), the loader (`load`) or the sink (`commit`).",
            buckets=LONG_SECONDS,
            labels=[Label(name="phase", values=("publish", "load", "commit"))],
        )
        self.rows = made.counter(
            "k2_rows_finished",
            "Rows of final receipts by what became of them; `withheld` are those of uploads that failed or "
            "were cancelled.",
            look="The share of what is not `committed`.",
            labels=[
                Label(
                    name="outcome", values=("committed", "rejected", "filtered", "dead_lettered", "withheld")
                )
            ],
        )
        self.unfinished = made.scraped(
            "k2_uploads_unfinished",
            "Uploads without a final receipt, of all replicas.",
            look="Grows: the loader or the sink stands.",
        )
        self.oldest = made.scraped(
            "k2_uploads_unfinished_oldest_seconds",
            "Age of the oldest of them; 0 when there is none.",
            look="Longer than the largest file takes: its receipt's `blocked_by` says who has to move.",
        )

    def _conservation(self, made: Declarations) -> None:
        self.unaccounted = made.scraped(
            "k2_rows_unaccounted",
            "Rows that the statuses state and the table lacks (above 0) or has too many (below 0), once rows "
            "in flight and dead letters are taken off. 0 when nothing was lost or doubled.",
            look="Anything but 0 for more than a minute: rows were lost or doubled.",
            labels=[LOADED],
        )
        self.conserved = made.scraped(
            "k2_rows_conserved",
            "The terms of that sum since the first version that this replica knows: stated - uncommitted - "
            "committed - dead_lettered + redriven = unaccounted. `uncommitted` rows are in flight.",
            look="When the sum is not 0: which term is wrong.",
            labels=[LOADED, Label(name="term", values=TERMS)],
        )
