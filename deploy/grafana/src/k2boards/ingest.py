"""From the body of a POST to records in Kafka: the gateway and the loader."""

from __future__ import annotations

from k2boards.board import Board, Choice, Panel, Row
from k2boards.promql import grown, largest, mean, quantiles, rate, summed

BOARD = Board(
    uid="k2-ingest",
    title="K2 / Ingest",
    description="From the body of a POST to records in Kafka: gateway and loader.",
    variables=[Choice(name="dataset", metric="k2_rows_loaded_total")],
    rows=[
        Row(
            title="Uploads",
            panels=[
                Panel(
                    title="Uploads received",
                    description="`known` are those of uploads that there were already.",
                    queries=[rate("k2_uploads_received_total", by="outcome")],
                    unit="ops",
                ),
                Panel(
                    title="Uploads finished",
                    description="Final receipts by outcome.",
                    queries=[rate("k2_uploads_finished_total", by="outcome")],
                    unit="ops",
                ),
                Panel(
                    title="Uploads in hand",
                    description="Received now, waiting for a publisher, without a final receipt.",
                    queries=[
                        summed("k2_uploads_receiving", legend="receiving"),
                        summed("k2_uploads_queued", legend="queued"),
                        largest("k2_uploads_unfinished", legend="unfinished"),
                    ],
                ),
                Panel(
                    title="Time to commit",
                    description="From the last byte of a body to the version that shows its rows.",
                    queries=quantiles("k2_uploads_committed_seconds", by="size", of=(0.5, 0.95, 0.99)),
                    unit="s",
                ),
                Panel(
                    title="Who is slow",
                    description="That time by phase: publish (gateway), load (loader), commit (sink).",
                    queries=quantiles("k2_phases_finished_seconds", by="phase", of=(0.95,)),
                    unit="s",
                ),
                Panel(
                    title="Rows of final receipts",
                    description="`withheld` are those of uploads that failed or were cancelled.",
                    queries=[rate("k2_rows_finished_total", by="outcome")],
                    unit="rowsps",
                    stacked=True,
                ),
            ],
        ),
        Row(
            title="Quality of the files",
            panels=[
                Panel(
                    title="Rows read",
                    description="By what became of them.",
                    queries=[rate('k2_rows_loaded_total{dataset=~"$dataset"}', by="outcome")],
                    unit="rowsps",
                    stacked=True,
                ),
                Panel(
                    title="Rows refused, by code",
                    description="A code that grows: a feed has changed its form.",
                    queries=[grown('k2_rows_rejected_total{dataset=~"$dataset"}', by="code")],
                ),
                Panel(
                    title="Chunks that need care",
                    description="Parsed in a process of their own; uploads whose chunks Kafka had deleted.",
                    queries=[
                        grown("k2_chunks_isolated_total", legend="isolated chunks"),
                        grown("k2_uploads_expired_total", legend="expired uploads"),
                    ],
                    limits=(1,),
                ),
            ],
        ),
        Row(
            title="Gateway",
            panels=[
                Panel(
                    title="Bytes in and out",
                    description="Bodies received; chunks published, as CSV and packed.",
                    queries=[
                        rate("k2_uploads_received_bytes_total", legend="received"),
                        rate("k2_chunks_published_bytes_total", legend="published"),
                        rate("k2_chunks_packed_bytes_total", legend="packed"),
                    ],
                    unit="Bps",
                ),
                Panel(
                    title="Chunks published and loaded",
                    description="The loader keeps up when both grow alike; it counts the last one too.",
                    queries=[
                        rate("k2_chunks_published_total", legend="published"),
                        rate("k2_chunks_loaded_total", legend="loaded"),
                    ],
                    unit="ops",
                ),
                Panel(
                    title="Transaction of chunks",
                    description="Grows when Kafka is slow.",
                    queries=quantiles("k2_chunks_published_seconds"),
                    unit="s",
                ),
                Panel(
                    title="Spool",
                    description="Bodies that wait on the gateway's disk, what is free, and the reserve "
                    "below which bodies are refused.",
                    queries=[
                        summed("k2_spool_used_bytes", by="instance", legend="used {{instance}}"),
                        summed("k2_spool_free_bytes", by="instance", legend="free {{instance}}"),
                        largest("k2_spool_reserved_bytes", legend="reserve"),
                    ],
                    unit="bytes",
                ),
                Panel(
                    title="Accepted bodies in doubt",
                    description="Claims that Kafka lost and a start wrote again, and bodies in quarantine.",
                    queries=[
                        summed("k2_uploads_reclaimed_total", by="instance", legend="reclaimed {{instance}}"),
                        summed(
                            "k2_spool_quarantined_bodies", by="instance", legend="quarantined {{instance}}"
                        ),
                    ],
                    unit="short",
                ),
                Panel(
                    title="Requests by status",
                    description="401, 403 and 429 say who is kept out.",
                    queries=[rate('k2_http_requests_answered_total{job="ingest-gateway"}', by="status")],
                    unit="reqps",
                ),
                Panel(
                    title="Time of requests",
                    description="By route, until the last byte.",
                    queries=quantiles(
                        "k2_http_requests_answered_seconds",
                        by="route",
                        where='{job="ingest-gateway"}',
                        of=(0.95,),
                    ),
                    unit="s",
                ),
            ],
        ),
        Row(
            title="Loader",
            panels=[
                Panel(
                    title="Chunks waiting",
                    description="By input partition.",
                    queries=[summed("k2_chunks_waiting", by="partition", legend="partition {{partition}}")],
                ),
                Panel(
                    title="Age of the oldest chunk in hand",
                    description="The loader's lag as users feel it.",
                    queries=[
                        largest("k2_chunks_waiting_seconds", by="partition", legend="partition {{partition}}")
                    ],
                    unit="s",
                ),
                Panel(
                    title="Time without progress",
                    description="Since a partition that has chunks waiting loaded one.",
                    queries=[
                        largest(
                            "k2_partitions_stalled_seconds", by="partition", legend="partition {{partition}}"
                        )
                    ],
                    unit="s",
                ),
                Panel(
                    title="Time of a step",
                    description="To parse and encode a chunk; to publish rows, statuses and position.",
                    queries=[
                        *quantiles("k2_chunks_parsed_seconds", legend="parse"),
                        *quantiles("k2_chunks_loaded_seconds", legend="transaction"),
                    ],
                    unit="s",
                ),
                Panel(
                    title="Chunks of a transaction",
                    description="At K2_LOADER__CHUNKS_PER_TRANSACTION all the time: the loader catches up.",
                    queries=[mean("k2_batches_loaded_chunks", legend="chunks")],
                ),
                Panel(
                    title="Rows of a transaction",
                    description="With its time.",
                    queries=[mean("k2_batches_loaded_rows", legend="rows")],
                ),
                Panel(
                    title="Bytes in and out",
                    description="CSV that was loaded; record batches that were written, packed.",
                    queries=[
                        rate("k2_chunks_loaded_bytes_total", legend="CSV"),
                        rate("k2_rows_published_bytes_total", by="dataset"),
                    ],
                    unit="Bps",
                ),
                Panel(
                    title="Input partitions owned",
                    description="By replica; their sum is 4, less while the group moves them.",
                    queries=[summed("k2_partitions_owned", by="instance")],
                    stacked=True,
                ),
            ],
        ),
    ],
)
