"""What is asked of the tables, and how long the answers take."""

from __future__ import annotations

from k2boards.board import Board, Panel, Row
from k2boards.engine import engine, requests
from k2boards.promql import rate, summed

JOB = "query-service"

BOARD = Board(
    uid="k2-query",
    title="K2 / Query",
    description="What is asked of the tables, and how long the answers take.",
    rows=[
        requests(JOB),
        Row(
            title="Answers",
            panels=[
                Panel(
                    title="Rows",
                    description="Given in pages and in streams, by dataset and format.",
                    queries=[
                        rate("k2_rows_answered_total", by="dataset", legend="pages of {{dataset}}"),
                        rate(
                            "k2_rows_streamed_total", by="dataset, format", legend="{{dataset}} as {{format}}"
                        ),
                    ],
                    unit="rowsps",
                ),
                Panel(
                    title="Bytes",
                    description="Of bodies, packed where the client takes that.",
                    queries=[rate(f'k2_http_requests_answered_bytes_total{{job="{JOB}"}}', by="route")],
                    unit="Bps",
                ),
                Panel(
                    title="SQL statements in hand",
                    description="Each runs in a process of its own.",
                    queries=[
                        summed("k2_statements_running", legend="running"),
                        summed("k2_statements_waiting", legend="waiting"),
                    ],
                ),
            ],
        ),
        engine(JOB),
    ],
)
