"""The gateway's settings."""

from pathlib import Path

from k2common.runtime.service import ServiceBlocks
from k2common.settings.block import Block
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.kafka import KafkaSettings
from k2common.settings.registry import RegistrySettings
from pydantic import Field, SecretStr


class GatewaySettings(Block):
    """Block `K2_GATEWAY__*`."""

    spool: Path = Field(description="Folder of this replica that outlives the process; bodies wait in it.")
    layouts: Path | None = Field(
        default=None, description="Folder of layouts beside the built-in ones, a JSON file each."
    )
    max_upload_bytes: int = Field(
        default=16 * 1024**3, ge=1, description="A longer body is refused with status 413."
    )
    bulk_bytes: int = Field(
        default=16 * 1024**2, ge=1, description="Uploads from this size on take partitions of their own."
    )
    chunks_per_transaction: int = Field(
        default=16, ge=1, le=64, description="At most so many chunks are published in one transaction."
    )
    concurrent_uploads: int = Field(default=4, ge=1, le=64, description="Uploads published side by side.")
    page_key: SecretStr = Field(
        default=SecretStr("k2"), description="Signs page tokens; the same for all replicas."
    )


class IngestGatewaySettings(ServiceBlocks):
    """All blocks of the service."""

    kafka: KafkaSettings
    registry: RegistrySettings
    iceberg: IcebergSettings
    gateway: GatewaySettings
