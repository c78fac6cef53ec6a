"""A query ends with its time, its memory or its caller, and leaves the engine free for the next one."""

import asyncio
from collections.abc import Iterator

import pytest
from k2common.engine.connection import Engine, QueryInterrupted, QueryTooLarge
from k2common.runtime import timings
from k2common.runtime.queries import Queries
from k2common.settings.engine import EngineSettings

ENDLESS = "SELECT count(*) FROM range(100000000000) a"
SETTINGS = EngineSettings(
    memory_megabytes=128, spill_megabytes=1, concurrent_queries=1, open_streams=2, query_seconds=20
)


@pytest.fixture
def engine() -> Iterator[Engine]:
    opened = Engine(SETTINGS)
    yield opened
    opened.close()


def queries(engine: Engine, settings: EngineSettings = SETTINGS) -> Queries:
    return Queries(engine, settings)


async def one(made: Queries) -> int:
    return int((await made.table("SELECT 1 AS n", {}))["n"][0].as_py())


async def test_a_query_past_its_time_is_given_up(engine: Engine) -> None:
    made = queries(engine, SETTINGS.model_copy(update={"query_seconds": 0.05}))
    with pytest.raises(QueryInterrupted):
        await made.table(ENDLESS, {})
    made.close()


async def test_a_query_whose_caller_has_gone_is_interrupted(engine: Engine) -> None:
    made = queries(engine)
    task = asyncio.create_task(made.table(ENDLESS, {}))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert await one(made) == 1  # the only place is free again
    made.close()


async def test_a_query_that_needs_more_memory_than_it_may_have_is_refused(engine: Engine) -> None:
    made = queries(engine)
    with pytest.raises(QueryTooLarge):
        await made.table("SELECT length(list(range)) AS n FROM range(40000000)", {})
    assert await one(made) == 1
    made.close()


async def test_a_stream_that_nobody_reads_on_stands_in_nobodys_way(engine: Engine) -> None:
    made = queries(engine)
    batches = made.batches("SELECT range AS n FROM range(1000000)", {}, rows=1000)
    assert (await anext(batches)).num_rows
    assert await one(made) == 1
    await batches.aclose()
    rows = 0
    async for batch in made.batches("SELECT range AS n FROM range(100000)", {}, rows=1000):
        rows += batch.num_rows
    assert rows == 100_000
    made.close()


async def test_the_steps_of_a_request_are_timed(engine: Engine) -> None:
    made = queries(engine)
    assert timings.so_far() == {}
    timings.begin()
    await one(made)
    assert list(timings.so_far()) == ["query_ms"]
    made.close()
