"""From records in Kafka to versions of the tables, and the work on the tables."""

from __future__ import annotations

from k2boards.board import Board, Choice, Panel, Row
from k2boards.promql import grown, largest, mean, quantiles, rate, smallest, summed

TABLE = '{table=~"$table"}'

BOARD = Board(
    uid="k2-sink",
    title="K2 / Sink and tables",
    description="From records in Kafka to versions of the tables, and the work on the tables.",
    variables=[Choice(name="table", metric="k2_rows_kept")],
    rows=[
        Row(
            title="Conservation",
            panels=[
                Panel(
                    title="Rows unaccounted for",
                    description="stated - uncommitted - committed - dead_lettered + redriven. "
                    "0 when no row was lost or doubled.",
                    queries=[largest(f"abs(k2_rows_unaccounted{TABLE})", by="table")],
                    limits=(1,),
                    width=12,
                ),
                Panel(
                    title="The terms of the sum",
                    description="Since the first version known to the gateway; `uncommitted` is in flight.",
                    queries=[summed(f"k2_rows_conserved{TABLE}", by="term")],
                    width=12,
                ),
            ],
        ),
        Row(
            title="Lag",
            panels=[
                Panel(
                    title="Records waiting",
                    description="Between what was taken and the log's end.",
                    queries=[summed(f"k2_records_waiting{TABLE}", by="table")],
                ),
                Panel(
                    title="Age of the oldest record in hand",
                    description="The sink's lag as users feel it.",
                    queries=[largest(f"k2_records_waiting_seconds{TABLE}", by="table")],
                    unit="s",
                    limits=(10, 60),
                ),
                Panel(
                    title="Records held",
                    description="In hand and not committed: the depth of the queue before the commits.",
                    queries=[summed(f"k2_records_held{TABLE}", by="table")],
                ),
                Panel(
                    title="Age of the newest ingest",
                    description="Now minus the newest time of ingest that was committed.",
                    queries=[smallest(f"k2_rows_committed_ingest_age_seconds{TABLE}", by="table")],
                    unit="s",
                ),
                Panel(
                    title="Age of the newest event",
                    description="Now minus the newest event time; old files do not lower it.",
                    queries=[smallest(f"k2_rows_committed_event_age_seconds{TABLE}", by="table")],
                    unit="s",
                ),
                Panel(
                    title="Uploads hidden",
                    description="By reason; `loading` that never falls is an upload that does not end.",
                    queries=[summed(f"max by (table, reason) (k2_uploads_hidden{TABLE})", by="reason")],
                ),
            ],
        ),
        Row(
            title="Commits",
            panels=[
                Panel(
                    title="Rows",
                    description="Records taken from Kafka and rows committed.",
                    queries=[
                        rate(f"k2_records_taken_total{TABLE}", by="table", legend="taken {{table}}"),
                        rate(f"k2_rows_committed_total{TABLE}", by="table", legend="committed {{table}}"),
                    ],
                    unit="rowsps",
                ),
                Panel(
                    title="Bytes in and out",
                    description="Batches taken, packed; data files committed.",
                    queries=[
                        rate(f"k2_records_taken_bytes_total{TABLE}", legend="taken"),
                        rate(f"k2_files_committed_bytes_total{TABLE}", legend="committed"),
                    ],
                    unit="Bps",
                ),
                Panel(
                    title="Versions and files",
                    description="Committed, by table.",
                    queries=[
                        rate(f"k2_versions_committed_total{TABLE}", legend="versions"),
                        rate(f"k2_files_committed_total{TABLE}", legend="files"),
                    ],
                    unit="ops",
                ),
                Panel(
                    title="Time of a commit",
                    description="Grows with live snapshots and with a slow catalogue.",
                    queries=quantiles("k2_versions_committed_seconds", where=TABLE),
                    unit="s",
                ),
                Panel(
                    title="Time to write a batch",
                    description="To decode, sort and write it.",
                    queries=quantiles("k2_files_written_seconds", where=TABLE),
                    unit="s",
                ),
                Panel(
                    title="Rows of a commit",
                    description="The mean; at K2_SINK__COMMIT_ROWS all the time: the sink catches up.",
                    queries=[mean("k2_versions_committed_rows", by="table", where=TABLE)],
                ),
                Panel(
                    title="Commits that did not go through",
                    description="`fenced`: another owner was first; `conflicted`: tried again.",
                    queries=[
                        grown(f"k2_commits_fenced_total{TABLE}", legend="fenced"),
                        grown(f"k2_commits_conflicted_total{TABLE}", legend="conflicted"),
                        grown(f"k2_commits_failed_total{TABLE}", legend="failed"),
                    ],
                ),
                Panel(
                    title="Dead letters",
                    description="Messages that are no records, kept and put back by a command; stray "
                    "records, which belong to no upload.",
                    queries=[
                        grown(f"k2_records_strayed_total{TABLE}", legend="stray"),
                        grown(f"k2_source_positions_reversed_total{TABLE}", legend="out of order"),
                        grown(f"k2_messages_dead_lettered_total{TABLE}", legend="kept"),
                        grown(f"k2_messages_redriven_total{TABLE}", legend="put back"),
                    ],
                    limits=(1,),
                ),
            ],
        ),
        Row(
            title="Gaps",
            panels=[
                Panel(
                    title="Events of sequence numbers",
                    description="`small_gap`, `large_gap`: a feed lost something; `healed`: it came later.",
                    queries=[grown("k2_gap_events_committed_total", by="kind")],
                ),
                Panel(
                    title="Rows followed",
                    description="The job keeps up when it follows what is committed.",
                    queries=[rate("k2_gap_rows_followed_total", by="table")],
                    unit="rowsps",
                ),
                Panel(
                    title="Time of a look",
                    description="Grows towards K2_GAPS__POLL_INTERVAL_SECONDS: the job falls behind.",
                    queries=quantiles("k2_gap_steps_committed_seconds"),
                    unit="s",
                ),
            ],
        ),
        Row(
            title="Tables",
            panels=[
                Panel(
                    title="Rows",
                    description="Of all data files, hidden rows too.",
                    queries=[largest(f"k2_rows_kept{TABLE}", by="table")],
                    width=6,
                ),
                Panel(
                    title="Bytes",
                    description="Of all data files.",
                    queries=[largest(f"k2_files_kept_bytes{TABLE}", by="table")],
                    unit="bytes",
                    width=6,
                ),
                Panel(
                    title="Files",
                    description="Grows without end: compaction does not keep up.",
                    queries=[largest(f"k2_files_kept{TABLE}", by="table")],
                    width=6,
                ),
                Panel(
                    title="Live snapshots",
                    description="Beyond K2_ICEBERG__LIVE_SNAPSHOTS: versions are not recorded.",
                    queries=[largest(f"k2_snapshots_kept{TABLE}", by="table")],
                    width=6,
                ),
            ],
        ),
        Row(
            title="Data files verified",
            panels=[
                Panel(
                    title="Damaged or missing files",
                    description="Above 0: answers that need such a file are refused.",
                    queries=[
                        largest(f"k2_files_damaged{TABLE}", by="table"),
                    ],
                    limits=(1,),
                ),
                Panel(
                    title="Files refused by readers",
                    description="Damaged or missing files that a query, a replay or a job met.",
                    queries=[grown("k2_data_files_refused_total", by="table")],
                    limits=(1,),
                ),
                Panel(
                    title="Files without a digest",
                    description="By another engine or an older release; their damage may stay unseen.",
                    queries=[largest(f"k2_files_unverified{TABLE}", by="table")],
                ),
                Panel(
                    title="Files scrubbed",
                    description="Read whole and compared with their digest.",
                    queries=[grown(f"k2_files_scrubbed_total{TABLE}", by="table")],
                ),
                Panel(
                    title="Bytes scrubbed",
                    description="What the scrub reads from the warehouse.",
                    queries=[rate(f"k2_files_scrubbed_bytes_total{TABLE}", by="table")],
                    unit="Bps",
                ),
            ],
        ),
        Row(
            title="Maintenance",
            panels=[
                Panel(
                    title="Time of a pass",
                    description="A task that takes longer than its interval falls behind.",
                    queries=quantiles(
                        "k2_maintenance_passes_completed_seconds", by="task", where=TABLE, of=(0.95,)
                    ),
                    unit="s",
                ),
                Panel(
                    title="Since the last good pass",
                    description="Of the table that waits longest, by task.",
                    queries=[
                        largest(
                            f"time() - max by (table, task) "
                            f"(k2_maintenance_passes_completed_timestamp_seconds{TABLE} > 0)",
                            by="task",
                        )
                    ],
                    unit="s",
                ),
                Panel(
                    title="Passes that failed",
                    description="The log says why.",
                    queries=[grown(f"k2_maintenance_passes_failed_total{TABLE}", by="task")],
                    limits=(1,),
                ),
                Panel(
                    title="Files",
                    description="Merged into others, and deleted since nothing named them.",
                    queries=[
                        grown(f"k2_files_compacted_total{TABLE}", legend="merged"),
                        grown(f"k2_files_collected_total{TABLE}", legend="deleted"),
                    ],
                ),
                Panel(
                    title="Snapshots expired",
                    description="Apart from commits.",
                    queries=[grown(f"k2_snapshots_expired_total{TABLE}", by="table")],
                ),
                Panel(
                    title="Rows purged",
                    description="Deleted for good, after retractions and failures.",
                    queries=[grown(f"k2_rows_purged_total{TABLE}", by="table")],
                ),
            ],
        ),
    ],
)
