"""The sink's metrics; counted per commit."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class SinkMetrics:
    """All metrics of the service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter("k2_rows_committed", "Rows committed.", ["table"], registry=registry)
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
        self.fenced = Counter(
            "k2_commits_fenced", "Commits that another owner forestalled.", ["table"], registry=registry
        )
        self.behind = Gauge(
            "k2_records_waiting",
            "Records between the table's offsets and the log's end.",
            ["table"],
            registry=registry,
        )
