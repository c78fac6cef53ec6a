"""The sink's metrics; counted per commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Set

from k2common.domain.numbering import Kind
from k2common.iceberg.commits.table_totals import Totals
from k2common.observability.metrics import ROWS, SECONDS, TABLE, CollectorRegistry, Declarations, Label
from k2common.schemas.datasets import DATASETS, MARKET_DATASETS, QUOTES, TRADES
from k2common.versions.hidden import Reason

from iceberg_sink.tasks import Task

SUNK = Label(name="table", values=tuple(dataset.table for dataset in DATASETS.values()))
NAMED = Label(name="table", values=tuple(dataset.table for dataset in MARKET_DATASETS.values()))
NUMBERED = Label(name="table", values=(TRADES.table, QUOTES.table))
KIND = Label(name="kind", values=tuple(map(str, Kind)))
REASON = Label(name="reason", values=tuple(map(str, Reason)))
TASK = Label(name="task", values=tuple(map(str, Task)))


class SinkMetrics:
    """All metrics of the commits, and of gaps."""

    def __init__(self, registry: CollectorRegistry, *, now: Callable[[], float] = time.time) -> None:
        made = Declarations(registry, now=now)
        self._intake(made)
        self._commits(made)
        self._contents(made)
        self._gaps(made)
        self.declared = made.all

    def _intake(self, made: Declarations) -> None:
        self.taken = made.counter(
            "k2_records_taken",
            "Records taken from Kafka to be committed.",
            look="What comes in; after a fenced or failed commit some come again.",
            labels=[SUNK],
        )
        self.taken_bytes = made.counter(
            "k2_records_taken_bytes",
            "Bytes of their batches, packed.",
            look="What comes in.",
            labels=[SUNK],
        )
        self.behind = made.gauge(
            "k2_records_waiting",
            "Records between what was taken and the log's end.",
            look="Grows: the sink is slower than what comes; see also its seconds.",
            labels=[SUNK],
        )
        self.waiting_seconds = made.aged(
            "k2_records_waiting_seconds",
            "Age of the oldest record in hand that is not committed; 0 when none waits.",
            look="The sink's lag as users feel it.",
            labels=[SUNK],
        )
        self.held = made.gauge(
            "k2_records_held",
            "Records in hand that are not committed.",
            look="The depth of the queue before the commits.",
            labels=[SUNK],
        )

    def _commits(self, made: Declarations) -> None:
        self.rows = made.counter(
            "k2_rows_committed", "Rows committed.", look="The sink's throughput.", labels=[SUNK]
        )
        self.files = made.counter(
            "k2_files_committed", "Data files committed.", look="Beside the rows: rows a file.", labels=[SUNK]
        )
        self.file_bytes = made.counter(
            "k2_files_committed_bytes", "Bytes of those files.", look="What goes out.", labels=[SUNK]
        )
        self.dead_letters = made.counter(
            "k2_messages_dead_lettered",
            "Messages kept as dead letters.",
            look="Above 0: something wrote what is no record; redrive it once the cause is mended.",
            labels=[SUNK],
        )
        self.strayed = made.counter(
            "k2_records_strayed",
            "Records that no status and no redrive names, kept as dead letters and out of the table.",
            look="Above 0: something else than the loader writes to the table's topic.",
            labels=[NAMED],
        )
        self.reversed = made.counter(
            "k2_source_positions_reversed",
            "Record batches whose chunk lies before the newest one of its partition, or was published twice.",
            look="Above 0: rows may be there twice; the loader's transactions do not hold.",
            labels=[NAMED],
        )
        self.redriven = made.counter(
            "k2_messages_redriven",
            "Records committed that were dead letters once and were put back.",
            look="After a redrive: as many as it put back.",
            labels=[SUNK],
        )
        self.commits = made.counter(
            "k2_versions_committed", "Versions committed.", look="Stops while records wait.", labels=[SUNK]
        )
        self.commit_seconds = made.histogram(
            "k2_versions_committed_seconds",
            "Time of a commit and its announcement.",
            look="Grows with live snapshots and with a slow catalogue.",
            buckets=SECONDS,
            labels=[SUNK],
        )
        self.commit_rows = made.histogram(
            "k2_versions_committed_rows",
            "Rows of a commit; 0 for one that only shows or hides uploads.",
            look="At `K2_SINK__COMMIT_ROWS` all the time: the sink catches up.",
            buckets=ROWS,
            labels=[SUNK],
        )
        self.write_seconds = made.histogram(
            "k2_files_written_seconds",
            "Time to decode, sort and write a batch.",
            look="Grows with a slow warehouse or without free processors.",
            buckets=SECONDS,
            labels=[SUNK],
        )
        self.fenced = made.counter(
            "k2_commits_fenced",
            "Commits that another owner forestalled; the work restarted.",
            look="A few when replicas come and go; all the time: two sinks work on one partition.",
            labels=[SUNK],
        )
        self.conflicted = made.counter(
            "k2_commits_conflicted",
            "Tries of a commit that met a moved head, or an unknown outcome, and were made again.",
            look="Grows with other writers on the table: maintenance, other engines.",
            labels=[SUNK],
        )
        self.failed = made.counter(
            "k2_commits_failed",
            "Commits given up after all tries; the work restarted.",
            look="Grows: the catalogue or the warehouse is unavailable.",
            labels=[SUNK],
        )

    def _contents(self, made: Declarations) -> None:
        self.event_age = made.aged(
            "k2_rows_committed_event_age_seconds",
            "Now minus the newest event time that this replica has committed.",
            look="How fresh the market is that a query sees; loading old files does not lower it.",
            labels=[SUNK],
        )
        self.ingest_age = made.aged(
            "k2_rows_committed_ingest_age_seconds",
            "Now minus the newest time of ingest that this replica has committed.",
            look="While files come: how far behind the tables are.",
            labels=[SUNK],
        )
        self.snapshots = made.gauge(
            "k2_snapshots_kept",
            "Live snapshots of the table after the newest commit of this replica.",
            look="Beyond `K2_ICEBERG__LIVE_SNAPSHOTS`: expiry waits for versions to be recorded.",
            labels=[TABLE],
        )
        self.kept_files = made.gauge(
            "k2_files_kept",
            "Data files of the table then.",
            look="Grows without end: compaction does not keep up.",
            labels=[TABLE],
        )
        self.kept_bytes = made.gauge(
            "k2_files_kept_bytes", "Bytes of those files.", look="The table's size.", labels=[TABLE]
        )
        self.kept_rows = made.gauge(
            "k2_rows_kept", "Rows of those files, hidden ones too.", look="The table's size.", labels=[TABLE]
        )
        self.hidden = made.gauge(
            "k2_uploads_hidden",
            "Uploads that the newest version of this replica does not show, by the reason.",
            look="`loading` that never falls: an upload does not end; others fall with the purge.",
            labels=[SUNK, REASON],
        )

    def _gaps(self, made: Declarations) -> None:
        self.gap_events = made.counter(
            "k2_gap_events_committed",
            "Events of sequence numbers committed, by kind.",
            look="`small_gap` and `large_gap`: a feed has lost something; `healed`: it came later.",
            labels=[KIND],
        )
        self.gap_rows = made.counter(
            "k2_gap_rows_followed",
            "Rows whose sequence numbers were looked at.",
            look="Beside the rows committed: the job keeps up.",
            labels=[NUMBERED],
        )
        self.gap_seconds = made.histogram(
            "k2_gap_steps_committed_seconds",
            "Time of a look at the tables for gaps, with its commit.",
            look="Grows towards `K2_GAPS__POLL_INTERVAL_SECONDS`: the job falls behind.",
            buckets=SECONDS,
        )

    def owned(self, tables: Set[str]) -> None:
        """From now on other replicas tell of all tables but these."""
        for table in set(SUNK.values) - tables:
            self.behind.labels(table).set(0)
            self.held.labels(table).set(0)
            for age in (self.waiting_seconds, self.event_age, self.ingest_age):
                age.forget(table)

    def tell_contents(self, table: str, totals: Totals | None) -> None:
        """What the table is made of, as a commit's snapshot says."""
        if totals is not None:
            self.snapshots.labels(table).set(totals.snapshots)
            self.kept_files.labels(table).set(totals.files)
            self.kept_bytes.labels(table).set(totals.bytes)
            self.kept_rows.labels(table).set(totals.rows)


class MaintenanceMetrics:
    """Metrics of the work on tables beside the commits."""

    def __init__(self, registry: CollectorRegistry) -> None:
        made = Declarations(registry)
        self.seconds = made.histogram(
            "k2_maintenance_passes_completed_seconds",
            "Time of a pass.",
            look="A task that takes longer than its interval.",
            buckets=SECONDS,
            labels=[TABLE, TASK],
        )
        self.completed = made.gauge(
            "k2_maintenance_passes_completed_timestamp_seconds",
            "When a pass last ended well, as Unix time.",
            look="Too long ago: nobody looks after the table, or its passes fail.",
            labels=[TABLE, TASK],
        )
        self.failed = made.counter(
            "k2_maintenance_passes_failed",
            "Passes that failed.",
            look="Grows: the log says why.",
            labels=[TABLE, TASK],
        )
        self.compacted = made.counter(
            "k2_files_compacted",
            "Files merged into others.",
            look="Beside the files committed.",
            labels=[TABLE],
        )
        self.expired = made.counter(
            "k2_snapshots_expired",
            "Snapshots expired apart from commits.",
            look="On tables without commits.",
            labels=[TABLE],
        )
        self.collected = made.counter(
            "k2_files_collected",
            "Files deleted that nothing named.",
            look="Much after kills and conflicts.",
            labels=[TABLE],
        )
        self.scrubbed = made.counter(
            "k2_files_scrubbed",
            "Data files read and verified by the scrub.",
            look="Stands still: `scrub` fails, or all files were verified within the period.",
            labels=[TABLE],
        )
        self.scrubbed_bytes = made.counter(
            "k2_files_scrubbed_bytes",
            "Bytes of those files.",
            look="What the scrub asks of the warehouse.",
            labels=[TABLE],
        )
        self.damaged = made.gauge(
            "k2_files_damaged",
            "Live data files that the last scrub knew as damaged or missing.",
            look="Above 0: answers that need the file are refused until it is repaired.",
            labels=[TABLE],
        )
        self.without_digest = made.gauge(
            "k2_files_unverified",
            "Live data files whose name has no digest, then.",
            look="Above 0: another engine, or an older release, wrote them; damage may stay unseen.",
            labels=[TABLE],
        )
        self.purged = made.counter(
            "k2_rows_purged", "Rows deleted for good.", look="After retractions and failures.", labels=[TABLE]
        )
        self.declared = made.all
