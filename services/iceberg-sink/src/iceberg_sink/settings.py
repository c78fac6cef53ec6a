"""The sink's settings."""

from k2common.runtime.service import ServiceBlocks
from k2common.settings.block import Block
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.kafka import KafkaSettings
from k2common.settings.registry import RegistrySettings
from k2common.settings.signing import SigningSecret
from pydantic import Field


class SinkSettings(Block):
    """Block `K2_SINK__*`."""

    commit_interval_seconds: float = Field(
        default=0.25, gt=0, le=60, description="Commit at least this often while rows arrive."
    )
    max_commit_time_ratio: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Maximum ratio of time spent on commits; below it they come before the interval.",
    )
    bookkeeping_interval_seconds: float = Field(
        default=2.0,
        gt=0,
        le=60,
        description="The same for the tables of receipts and versions, for which nobody waits.",
    )
    commit_rows: int = Field(
        default=200_000, ge=1_000, le=5_000_000, description="Commit earlier once so many rows have come."
    )
    commit_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024 * 1024,
        le=16 * 1024**3,
        description="Commit earlier once the records that have come take so many bytes, unpacked.",
    )
    fetch_batches: int = Field(
        default=64, ge=1, le=1_000, description="At most so many record batches are taken at once."
    )
    idle_commit_seconds: float = Field(
        default=3600.0,
        gt=0,
        le=86_400,
        description="Commit offsets alone after so long without rows, before retention can pass them.",
    )
    dead_letter_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Stop when more of a topic's messages of uploads than this are no records.",
    )
    dead_letters_allowed: int = Field(
        default=100, ge=0, le=1_000_000, description="So many are kept whatever their share."
    )
    page_key: SigningSecret = Field(description="Signs page tokens; the same for all replicas.")
    poll_interval_seconds: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="Interval at which the table is polled for uploads that are not settled.",
    )


class MaintenanceSettings(Block):
    """Block `K2_MAINTENANCE__*`."""

    compact_interval_seconds: float = Field(
        default=5.0, gt=0, le=86_400, description="How often files to merge are looked for."
    )
    compact_rows: int = Field(
        default=250_000,
        ge=1_000,
        le=50_000_000,
        description="At most so many rows are merged at a time; they are held in memory.",
    )
    compact_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        le=16 * 1024**3,
        description="At most so many bytes of files, compressed, are merged at a time.",
    )
    expire_interval_seconds: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="How often snapshots of a table without commits expire; every commit expires some too.",
    )
    orphan_removal_interval_seconds: float = Field(
        default=600.0, gt=0, le=86_400, description="Interval at which orphan files are looked for."
    )
    orphan_min_age_seconds: float = Field(
        default=10_800.0,
        ge=1,
        le=30 * 86_400,
        description="Minimum age of an orphan file before it is removed; longer than any request.",
    )
    scrub_interval_seconds: float = Field(
        default=60.0, gt=0, le=86_400, description="How often a part of the data files is verified."
    )
    scrub_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024,
        le=16 * 1024**3,
        description="Bytes of files that are read and verified at a time.",
    )
    scrub_period_seconds: float = Field(
        default=7 * 86_400.0,
        ge=1,
        le=3_660 * 86_400,
        description="Every file is verified again after this time, if the bytes above allow it.",
    )
    purge_interval_seconds: float = Field(
        default=3_600.0, gt=0, le=86_400, description="How often rows to purge are looked for."
    )
    purge_after_seconds: float = Field(
        default=30 * 86_400.0,
        ge=1,
        le=3_660 * 86_400,
        description="Rows of an upload are deleted for good so long after it was taken back.",
    )


class GapSettings(Block):
    """Block `K2_GAPS__*`: how sequence numbers are followed."""

    poll_interval_seconds: float = Field(
        default=5.0, gt=0, le=3600, description="Interval at which the tables are polled for new versions."
    )
    large_gap: int = Field(
        default=1_000, ge=2, description="A gap of so many numbers, or a drop by as many, is large."
    )
    open_gaps_per_day: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        description="Of more gaps in a key's day the lowest can heal no more.",
    )
    days_per_key: int = Field(
        default=40, ge=2, le=1_000, description="Of more days the one that had rows longest ago is forgotten."
    )
    events_per_day: int = Field(
        default=1_000, ge=1, le=100_000, description="After so many events no more is said of a key's day."
    )
    memory_megabytes: int = Field(
        default=256, ge=128, le=65_536, description="To bring rows in order; more spills to disk."
    )


class IcebergSinkSettings(ServiceBlocks):
    """All blocks of the service."""

    kafka: KafkaSettings
    registry: RegistrySettings
    iceberg: IcebergSettings
    sink: SinkSettings
    maintenance: MaintenanceSettings
    gaps: GapSettings
