"""The sink's settings."""

from k2common.runtime.service import ServiceBlocks
from k2common.settings.block import Block
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.kafka import KafkaSettings
from k2common.settings.registry import RegistrySettings
from pydantic import Field


class SinkSettings(Block):
    """Block `K2_SINK__*`."""

    commit_interval_seconds: float = Field(
        default=0.25, gt=0, le=60, description="Commit at least this often while rows arrive."
    )
    commit_rows: int = Field(
        default=300_000, ge=1_000, le=5_000_000, description="Commit earlier once so many rows have come."
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
    look_seconds: float = Field(
        default=1.0, gt=0, le=60, description="How often a waiting upload is looked for in the table."
    )


class IcebergSinkSettings(ServiceBlocks):
    """All blocks of the service."""

    kafka: KafkaSettings
    registry: RegistrySettings
    iceberg: IcebergSettings
    sink: SinkSettings
