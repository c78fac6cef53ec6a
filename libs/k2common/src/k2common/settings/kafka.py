"""How to reach Kafka."""

from pydantic import Field

from k2common.settings.block import Block


class KafkaSettings(Block):
    """Block `K2_KAFKA__*`."""

    bootstrap_servers: str = Field(min_length=1, description="Brokers to ask first: host:port, by commas.")
    epoch: int = Field(
        0, ge=0, description="Grows when the topics are re-created; offsets compare within one."
    )
    replication_factor: int = Field(1, ge=1, le=9, description="Copies of each partition of a new topic.")
    request_timeout_seconds: float = Field(
        10.0, gt=0, le=300, description="A request that takes longer has failed."
    )
    transaction_timeout_seconds: float = Field(
        10.0, gt=0, le=900, description="The broker ends a transaction whose owner was silent for so long."
    )
    max_request_bytes: int = Field(
        4 * 1024 * 1024, ge=1024 * 1024, le=64 * 1024 * 1024, description="Largest produce request."
    )
    session_timeout_seconds: float = Field(
        10.0, ge=6, le=300, description="A member of a group that was silent for so long has left it."
    )
    fetch_wait_milliseconds: int = Field(
        500, ge=1, le=5000, description="The broker holds a fetch without data for so long."
    )
