"""The query service's metrics."""

from __future__ import annotations

from k2common.http.negotiation import MEDIA_TYPES
from k2common.observability.metrics import CollectorRegistry, Declarations, Label
from k2common.schemas.datasets import TABLES

DATASET = Label(name="dataset", values=tuple(table.name for table in TABLES.values()))
STREAMED = Label(name="format", values=tuple(form for form in MEDIA_TYPES if form != "json"))


class QueryMetrics:
    """All metrics of the service beside those of the engine and of every HTTP service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        made = Declarations(registry)
        self.rows = made.counter(
            "k2_rows_answered",
            "Rows given in pages, by dataset.",
            look="What is asked for.",
            labels=[DATASET],
        )
        self.streamed = made.counter(
            "k2_rows_streamed",
            "Rows given in streams, counted part by part.",
            look="What is asked for; it goes on while a stream runs.",
            labels=[DATASET, STREAMED],
        )
        self.statements = made.scraped(
            "k2_statements_running",
            "SQL statements of clients that run, each in a process of its own.",
            look="Stays at `K2_SANDBOX__CONCURRENT_STATEMENTS`: others wait.",
        )
        self.statements_waiting = made.scraped(
            "k2_statements_waiting", "SQL statements that wait for their turn.", look="The queue's depth."
        )
        self.declared = made.all
