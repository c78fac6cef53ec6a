"""A query ends with its time, its memory or its caller, and leaves the engine free for the next one."""

import asyncio
from collections.abc import Iterator

import duckdb
import pytest
from k2common.engine.connection import Engine, QueryInterrupted, QueryTooLarge
from k2common.observability.metrics import CollectorRegistry
from k2common.query import timings
from k2common.query.admission import Overloaded, TooManyAtOnce
from k2common.query.queries import Queries
from k2common.query.query_metrics import QueriesMetrics
from k2common.settings.engine import EngineSettings

ENDLESS = "SELECT count(*) FROM range(100000000000) a"
OUTCOMES = ("answered", "interrupted", "failed", "cancelled")
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


async def test_how_queries_wait_run_and_end_is_told(engine: Engine) -> None:
    registry = CollectorRegistry()
    metrics = QueriesMetrics(registry)
    hasty = Queries(engine, SETTINGS.model_copy(update={"query_seconds": 0.05}), metrics=metrics)
    with pytest.raises(QueryInterrupted):
        await hasty.table(ENDLESS, {})
    hasty.close()
    # With time enough on any machine.
    settings = SETTINGS.model_copy(update={"query_seconds": 600.0, "max_queued_queries": 1})
    made = Queries(engine, settings, metrics=metrics)

    def read(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert await one(made) == 1
    with pytest.raises(duckdb.Error):
        await made.table("SELECT nothing", {})
    running = [asyncio.create_task(made.table(ENDLESS, {})) for _ in range(2)]
    await asyncio.sleep(0)
    assert (read("k2_queries_running"), read("k2_queries_waiting")) == (1, 1)
    with pytest.raises(Overloaded):
        await one(made)
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    batches = made.batches("SELECT range AS n FROM range(200000) ORDER BY hash(n)", {}, rows=1000)
    await anext(batches)
    assert read("k2_streams_running") == 1
    assert read("k2_databases_opened") == 1
    assert (read("k2_engine_used_bytes") or 0) > 0
    await batches.aclose()
    outcomes = {name: read("k2_queries_finished_total", outcome=name) for name in OUTCOMES}
    assert outcomes == {"answered": 2, "interrupted": 1, "failed": 1, "cancelled": 1}
    assert read("k2_queries_refused_total", reason="overloaded") == 1
    assert read("k2_queries_run_seconds_count") == 5
    assert (read("k2_queries_waited_seconds_count") or 0) >= 5
    assert read("k2_engine_allowed_bytes") == 128_000_000
    assert read("k2_engine_spilled_bytes") == 0
    made.close()


async def test_a_caller_with_too_much_waiting_is_counted_as_such(engine: Engine) -> None:
    registry = CollectorRegistry()
    settings = SETTINGS.model_copy(update={"max_queued_queries": 2})
    made = Queries(engine, settings, metrics=QueriesMetrics(registry))
    running = [asyncio.create_task(made.table(ENDLESS, {})) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyAtOnce):
        await one(made)
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    counts = [
        registry.get_sample_value("k2_queries_refused_total", {"reason": reason})
        for reason in ("too_many", "overloaded")
    ]
    assert counts == [1, 0]
    made.close()
