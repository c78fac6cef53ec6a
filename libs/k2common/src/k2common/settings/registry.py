"""How to reach the schema registry."""

from pydantic import Field

from k2common.settings.block import Block


class RegistrySettings(Block):
    """Block `K2_REGISTRY__*`."""

    url: str = Field(pattern=r"^https?://", description="Base address of the Confluent API.")
    timeout_seconds: float = Field(10.0, gt=0, le=300, description="A call that takes longer has failed.")
