"""How much a stranger's SQL may take."""

from pydantic import Field

from k2common.settings.block import Block


class SandboxSettings(Block):
    """Block `K2_SANDBOX__*`."""

    concurrent_statements: int = Field(
        default=2, ge=1, le=64, description="Statements that run side by side."
    )
    statements_per_caller: int = Field(
        default=1, ge=1, le=64, description="The same for one key, or one address where keys are off."
    )
    max_queued_statements: int = Field(
        default=16, ge=0, le=1024, description="Maximum number of queued statements; further ones get 503."
    )
    queue_timeout_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="A statement that has not started by then gets 503."
    )
    memory_megabytes: int = Field(
        default=512, ge=128, le=65536, description="Of one statement; nothing spills to disk."
    )
    threads: int = Field(default=2, ge=1, le=64, description="Threads of one statement.")
    statement_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="A statement that computes for longer is killed."
    )
    answer_seconds: float = Field(
        default=600.0, gt=0, le=86400, description="An answer that is not read whole by then is cut off."
    )
    answer_megabytes: int = Field(
        default=1024, ge=1, le=1_000_000, description="An answer larger than this is cut off."
    )
