"""The query service's settings."""

from k2common.runtime.service import ServiceBlocks
from k2common.settings.block import Block
from k2common.settings.engine import EngineSettings
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.kafka import KafkaSettings
from k2common.settings.registry import RegistrySettings
from k2common.settings.sandbox import SandboxSettings
from k2common.settings.signing import SigningSecret
from pydantic import Field


class QuerySettings(Block):
    """Block `K2_QUERY__*`."""

    citation_key: SigningSecret = Field(
        description="Signs citations; the same for all replicas, and kept for good."
    )
    page_key: SigningSecret = Field(description="Signs page tokens; the same for all replicas.")
    reader_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="A client takes 64 KiB of a stream in each such time."
    )


class QueryServiceSettings(ServiceBlocks):
    """All blocks of the service."""

    kafka: KafkaSettings
    registry: RegistrySettings
    iceberg: IcebergSettings
    engine: EngineSettings
    sandbox: SandboxSettings
    query: QuerySettings
