"""The loader's settings."""

from k2common.runtime.service import ServiceBlocks
from k2common.settings.block import Block
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.kafka import KafkaSettings
from k2common.settings.registry import RegistrySettings
from pydantic import Field


class LoaderSettings(Block):
    """Block `K2_LOADER__*`."""

    chunks_per_transaction: int = Field(
        default=16, ge=1, le=64, description="At most so many waiting chunks become one transaction."
    )
    batch_bytes: int = Field(
        default=1_000_000, ge=10_000, le=3_000_000, description="Size of a record batch before it is packed."
    )
    isolated_seconds: float = Field(
        default=120.0,
        gt=0,
        le=3600,
        description="A chunk that ended its parser before is given so long in a process of its own.",
    )
    wait_seconds: float = Field(
        default=0.5, gt=0, le=10, description="How long one look for new chunks waits."
    )


class CsvLoaderSettings(ServiceBlocks):
    """All blocks of the service."""

    kafka: KafkaSettings
    registry: RegistrySettings
    iceberg: IcebergSettings
    loader: LoaderSettings
