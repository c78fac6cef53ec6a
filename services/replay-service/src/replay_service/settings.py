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

    cursor_key: SigningSecret = Field(description="Signs cursors and page tokens; the same for all replicas.")
    max_sessions: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Sessions kept; one more is refused with status 429."
    )
    max_sessions_per_caller: int = Field(
        default=5_000,
        ge=1,
        le=1_000_000,
        description="The same for one key, or one address where keys are off.",
    )
    session_days: float = Field(
        default=7.0, gt=0, le=3650, description="A session is forgotten so long after it was created."
    )


class ReplayServiceSettings(ServiceBlocks):
    """All blocks of the service."""

    kafka: KafkaSettings
    registry: RegistrySettings
    iceberg: IcebergSettings
    engine: EngineSettings
    replay: ReplaySettings
