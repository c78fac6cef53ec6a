"""How much the query engine may take."""

from pydantic import Field

from k2common.settings.block import Block


class EngineSettings(Block):
    """Block `K2_ENGINE__*`."""

    memory_megabytes: int = Field(
        default=1024, ge=128, description="All queries of the process together; more spills to disk."
    )
    threads: int = Field(default=2, ge=1, le=256, description="Threads of all queries together.")
    concurrent_queries: int = Field(default=4, ge=1, le=256, description="Queries that run side by side.")
    query_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="A query without an answer by then is given up."
    )
