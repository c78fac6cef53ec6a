"""The replay service's settings."""

from k2common.runtime.service import ServiceBlocks
from k2common.settings.block import Block
from k2common.settings.engine import EngineSettings
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.kafka import KafkaSettings
from k2common.settings.registry import RegistrySettings
from pydantic import Field, SecretStr


class ReplaySettings(Block):
    """Block `K2_REPLAY__*`."""

    cursor_key: SecretStr = Field(
        default=SecretStr("k2"), description="Signs cursors; the same for all replicas."
    )


class ReplayServiceSettings(ServiceBlocks):
    """All blocks of the service."""

    kafka: KafkaSettings
    registry: RegistrySettings
    iceberg: IcebergSettings
    engine: EngineSettings
    replay: ReplaySettings
