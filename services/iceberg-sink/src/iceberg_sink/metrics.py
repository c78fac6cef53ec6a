"""The sink's metrics; counted per commit."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class SinkMetrics:
    """All metrics of the service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter("k2_rows_committed", "Rows committed.", ["table"], registry=registry)
        self.dead_letters = Counter(
            "k2_messages_dead_lettered", "Messages kept as dead letters.", ["table"], registry=registry
        )
        self.commits = Counter("k2_versions_committed", "Versions committed.", ["table"], registry=registry)
        self.commit_seconds = Histogram(
            "k2_versions_committed_seconds",
            "Time of a commit and its announcement.",
            ["table"],
            registry=registry,
        )
        self.write_seconds = Histogram(
            "k2_files_written_seconds",
            "Time to decode, sort and write a batch.",
            ["table"],
            registry=registry,
        )
        self.gap_events = Counter(
            "k2_gap_events_committed", "Events of sequence numbers committed.", ["kind"], registry=registry
        )
        self.gap_rows = Counter(
            "k2_gap_rows_followed",
            "Rows whose sequence numbers were looked at.",
            ["table"],
            registry=registry,
        )
        self.gap_seconds = Histogram(
            "k2_gap_steps_committed_seconds",
            "Time of a look at the tables for gaps, with its commit.",
            registry=registry,
        )
        self.fenced = Counter(
            "k2_commits_fenced", "Commits that another owner forestalled.", ["table"], registry=registry
        )
        self.behind = Gauge(
            "k2_records_waiting",
            "Records between the table's offsets and the log's end.",
            ["table"],
            registry=registry,
        )


class MaintenanceMetrics:
    """Metrics of the work on tables beside the commits."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "k2_maintenance_passes_completed_seconds",
            "Time of a pass.",
            ["table", "task"],
            registry=registry,
        )
        self.failed = Counter(
            "k2_maintenance_passes_failed", "Passes that failed.", ["table", "task"], registry=registry
        )
        self.compacted = Counter(
            "k2_files_compacted", "Files merged into others.", ["table"], registry=registry
        )
        self.expired = Counter("k2_snapshots_expired", "Snapshots expired.", ["table"], registry=registry)
        self.collected = Counter(
            "k2_files_collected", "Files deleted that nothing named.", ["table"], registry=registry
        )
        self.purged = Counter("k2_rows_purged", "Rows deleted for good.", ["table"], registry=registry)
