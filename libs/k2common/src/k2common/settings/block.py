"""What all settings blocks have in common: frozen, and no field that nobody knows."""

from pydantic import BaseModel, ConfigDict


class Block(BaseModel):
    """Base of a settings block; its fields are set by `K2_<BLOCK>__<FIELD>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
