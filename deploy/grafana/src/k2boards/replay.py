"""Who replays what, and how fast."""

from __future__ import annotations

from k2boards.board import Board, Panel, Row
from k2boards.engine import engine, requests
from k2boards.promql import grown, rate, summed

JOB = "replay-service"

BOARD = Board(
    uid="k2-replay",
    title="K2 / Replay",
    description="Who replays what, and how fast.",
    rows=[
        Row(
            title="Streams",
            panels=[
                Panel(
                    title="Open streams",
                    description="Who reads now.",
                    queries=[summed("k2_replays_streamed", legend="streams")],
                ),
                Panel(
                    title="Rows replayed",
                    description="The speed of all replays together.",
                    queries=[rate("k2_rows_replayed_total", legend="rows")],
                    unit="rowsps",
                ),
                Panel(
                    title="Bytes replayed",
                    description="As they were sent.",
                    queries=[rate("k2_rows_replayed_bytes_total", legend="bytes")],
                    unit="Bps",
                ),
                Panel(
                    title="Sessions created",
                    description="What is asked for.",
                    queries=[grown("k2_replays_created_total", legend="sessions")],
                ),
                Panel(
                    title="Streams ended",
                    description="`interrupted`: the client, the warehouse or a limit ended the stream.",
                    queries=[grown("k2_replays_finished_total", by="outcome")],
                ),
            ],
        ),
        requests(JOB),
        engine(JOB),
    ],
)
