"""The replay service's settings."""

from k2common.runtime.service import ServiceBlocks
from k2common.settings.block import Block
from k2common.settings.engine import EngineSettings
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.kafka import KafkaSettings
from k2common.settings.registry import RegistrySettings
from k2common.settings.signing import SigningSecret
from pydantic import Field


class ReplaySettings(Block):
    """Block `K2_REPLAY__*`."""

    cursor_key: SigningSecret = Field(description="Signs cursors; the same for all replicas.")


class ReplayServiceSettings(ServiceBlocks):
    """All blocks of the service."""

    kafka: KafkaSettings
    registry: RegistrySettings
    iceberg: IcebergSettings
    engine: EngineSettings
    replay: ReplaySettings
