"""Where an upload is now: the hops in the order in which it passes them.

No metric knows an upload by its id, since ids have no bound. The board shows the way of all uploads over
time; the receipt, the rejects and the trace of the one whose id the reader types in are a link away.
"""

from __future__ import annotations

from k2boards.board import Board, Entry, Panel, Row, Words
from k2boards.promql import largest, mean, quantiles, rate, summed

RECEIPT = "${gateway}/v1/uploads/${upload}"
TRACES = "${traces}/search?service=ingest-gateway&tags=%7B%22upload_id%22%3A%22${upload}%22%7D"
LINKS = f"""
| | |
|---|---|
| [Receipt]({RECEIPT}) | state, rows, versions, time by phase; `blocked_by` says who has to move |
| [Rejects]({RECEIPT}/rejects) | lines that were refused, with the reason |
| [Dead letters](${{sink}}/v1/dead-letters?upload_id=${{upload}}) | messages that could not be read |
| [First row](${{query}}/v1/uploads/${{upload}}/rows/2) | where line 2 of the file is now |
| [Traces]({TRACES}) | from the POST to the commit, where tracing is on |

An upload is at the last hop below that moved after it was posted, and waits where something stands.
"""

BOARD = Board(
    uid="k2-follow",
    title="K2 / Follow an upload",
    description="Where an upload is now: the hops in the order in which it passes them.",
    since="now-15m",
    variables=[
        Entry(name="upload", label="Upload"),
        Entry(name="gateway", label="Gateway", default="http://127.0.0.1:8001"),
        Entry(name="sink", label="Sink", default="http://127.0.0.1:8003"),
        Entry(name="query", label="Query", default="http://127.0.0.1:8004"),
        Entry(name="traces", label="Traces", default="http://127.0.0.1:16686"),
    ],
    rows=[
        Row(title="The upload", panels=[Words(title="Upload ${upload}", content=LINKS, height=8)]),
        Row(
            title="Is anything late",
            panels=[
                Panel(
                    title="Oldest unfinished upload",
                    description="If this is as old as the upload, it is the one that waits.",
                    queries=[largest("k2_uploads_unfinished_oldest_seconds", legend="oldest")],
                    unit="s",
                    kind="figure",
                    limits=(60, 300),
                    width=6,
                    height=5,
                ),
                Panel(
                    title="Unfinished uploads",
                    description="Without a final receipt.",
                    queries=[largest("k2_uploads_unfinished", legend="uploads")],
                    kind="figure",
                    width=6,
                    height=5,
                ),
                Panel(
                    title="What an upload takes",
                    description="Median by size, from the last byte to the version that shows it.",
                    queries=quantiles("k2_uploads_committed_seconds", by="size", of=(0.5,)),
                    unit="s",
                    kind="figure",
                    width=6,
                    height=5,
                ),
                Panel(
                    title="Its phases",
                    description="The mean by phase: gateway, loader, sink.",
                    queries=[mean("k2_phases_finished_seconds", by="phase")],
                    unit="s",
                    kind="figure",
                    width=6,
                    height=5,
                ),
            ],
        ),
        Row(
            title="1 Received",
            panels=[
                Panel(
                    title="Received, by what they were",
                    description="`known`: the same file was there already, its old receipt is the answer.",
                    queries=[rate("k2_uploads_received_total", by="outcome")],
                    unit="ops",
                ),
                Panel(
                    title="Being received, waiting for a publisher",
                    description="A body is in the spool until its chunks are published.",
                    queries=[
                        summed("k2_uploads_receiving", legend="receiving"),
                        summed("k2_uploads_queued", legend="queued"),
                    ],
                ),
                Panel(
                    title="Spool",
                    description="Bytes of bodies that are not published.",
                    queries=[summed("k2_spool_used_bytes", legend="used")],
                    unit="bytes",
                ),
            ],
        ),
        Row(
            title="2 Published as chunks",
            panels=[
                Panel(
                    title="Chunks published",
                    description="By the gateway, in transactions.",
                    queries=[rate("k2_chunks_published_total", legend="chunks")],
                    unit="ops",
                ),
                Panel(
                    title="Chunks waiting for the loader",
                    description="By input partition; an upload is in one of them.",
                    queries=[summed("k2_chunks_waiting", by="partition", legend="partition {{partition}}")],
                ),
                Panel(
                    title="Age of the oldest",
                    description="By input partition.",
                    queries=[
                        largest("k2_chunks_waiting_seconds", by="partition", legend="partition {{partition}}")
                    ],
                    unit="s",
                ),
            ],
        ),
        Row(
            title="3 Loaded into records",
            panels=[
                Panel(
                    title="Rows read",
                    description="By what became of them.",
                    queries=[rate("k2_rows_loaded_total", by="outcome")],
                    unit="rowsps",
                ),
                Panel(
                    title="Records waiting for the sink",
                    description="By table.",
                    queries=[summed("k2_records_waiting", by="table")],
                ),
                Panel(
                    title="Age of the oldest",
                    description="By table.",
                    queries=[largest("k2_records_waiting_seconds", by="table")],
                    unit="s",
                ),
            ],
        ),
        Row(
            title="4 Committed and shown",
            panels=[
                Panel(
                    title="Rows committed",
                    description="They are in the table, hidden until the whole upload is.",
                    queries=[rate("k2_rows_committed_total", by="table")],
                    unit="rowsps",
                ),
                Panel(
                    title="Uploads hidden",
                    description="`loading`: rows are there and the end is not; others are taken back.",
                    queries=[largest("k2_uploads_hidden", by="table, reason")],
                ),
                Panel(
                    title="Receipts",
                    description="Final ones, by outcome.",
                    queries=[rate("k2_uploads_finished_total", by="outcome")],
                    unit="ops",
                ),
            ],
        ),
    ],
)
