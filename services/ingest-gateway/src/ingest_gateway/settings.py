"""The gateway's settings."""

from pathlib import Path

from k2common.runtime.service import ServiceBlocks
from k2common.settings.block import Block
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.kafka import KafkaSettings
from k2common.settings.registry import RegistrySettings
from k2common.settings.signing import SigningSecret
from pydantic import Field


class GatewaySettings(Block):
    """Block `K2_GATEWAY__*`."""

    spool: Path = Field(description="Folder of this replica that outlives the process; bodies wait in it.")
    layouts: Path | None = Field(
        default=None, description="Folder of layouts beside the built-in ones, a JSON file each."
    )
    max_upload_bytes: int = Field(
        default=16 * 1024**3, ge=1, description="A longer body is refused with status 413."
    )
    max_line_bytes: int = Field(
        default=1024**2, ge=1024, le=2 * 1024**2, description="A body with a longer line is refused with 422."
    )
    max_columns: int = Field(
        default=1000, ge=1, le=10_000, description="A file with more columns is refused with status 422."
    )
    max_receiving: int = Field(
        default=32, ge=1, le=1000, description="One more body at the same time is refused with status 429."
    )
    max_receiving_per_caller: int = Field(
        default=16, ge=1, le=1000, description="The same for one key, or one address where keys are off."
    )
    archive_days: int | None = Field(
        default=None, ge=1, description="The bytes of uploads are kept for so long; for ever without it."
    )
    spool_reserve_bytes: int = Field(
        default=1024**3, ge=0, description="With less free disk a body is refused with status 507."
    )
    blocked_after_seconds: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="A receipt without progress for so long says what it waits for.",
    )
    bulk_bytes: int = Field(
        default=16 * 1024**2, ge=1, description="Uploads from this size on take partitions of their own."
    )
    chunks_per_transaction: int = Field(
        default=16, ge=1, le=64, description="At most so many chunks are published in one transaction."
    )
    concurrent_uploads: int = Field(default=4, ge=1, le=64, description="Uploads published side by side.")
    page_key: SigningSecret = Field(description="Signs page tokens; the same for all replicas.")


class IngestGatewaySettings(ServiceBlocks):
    """All blocks of the service."""

    kafka: KafkaSettings
    registry: RegistrySettings
    iceberg: IcebergSettings
    gateway: GatewaySettings
