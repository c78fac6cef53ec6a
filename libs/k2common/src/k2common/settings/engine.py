"""How much the query engine may take."""

from pydantic import Field

from k2common.settings.block import Block


class EngineSettings(Block):
    """Block `K2_ENGINE__*`."""

    memory_megabytes: int = Field(
        default=512, ge=128, description="One query; more spills to disk, and what cannot spill is refused."
    )
    total_memory_megabytes: int = Field(
        default=1536,
        ge=256,
        description="All queries, streams and SQL statements of the process; beyond it they get less each "
        "and spill.",
    )
    spill_megabytes: int = Field(
        default=10_240, ge=1, description="One query's files on disk; a query that needs more is refused."
    )
    threads: int = Field(default=2, ge=1, le=256, description="Threads of one query.")
    concurrent_queries: int = Field(default=4, ge=1, le=256, description="Queries that compute side by side.")
    open_streams: int = Field(
        default=8, ge=1, le=1_000, description="Streams that are open at once; they share the query slots."
    )
    streams_per_caller: int = Field(
        default=4, ge=1, le=1_000, description="The same for one key, or one address where keys are off."
    )
    max_queued_queries: int = Field(
        default=64, ge=0, le=100_000, description="Maximum number of queued queries; further ones get 503."
    )
    queue_timeout_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="A query that has not started by then gets 503."
    )
    query_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="A query without an answer by then is given up."
    )
