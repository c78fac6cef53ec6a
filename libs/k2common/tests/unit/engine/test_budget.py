"""All databases of a process have one bound of memory, and give back what they no longer use."""

from collections.abc import Sequence
from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st
from k2common.engine.budget import MemoryBudget
from k2common.engine.connection import LEAST_MEGABYTES, Engine
from k2common.settings.engine import EngineSettings


@given(
    st.integers(1, 2000),
    st.integers(1, 20),
    st.lists(st.tuples(st.booleans(), st.integers(1, 600)), max_size=60),
)
def test_no_more_is_given_out_than_there_is(
    total: int, holders: int, steps: Sequence[tuple[bool, int]]
) -> None:
    budget = MemoryBudget(total)
    least = budget.least_share(holders, wanted=64)
    held: list[int] = []
    for takes, most in steps:
        if takes and len(held) < holders:
            held.append(budget.take(least, most))
            assert held[-1] >= least
        elif held:
            budget.give_back(held.pop(0), least)
        assert sum(held) + least * (holders - len(held)) <= max(total, holders)


def megabytes(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"MiB": 2**20, "GiB": 2**30}[unit] / 10**6


def test_all_queries_together_have_the_budget_and_one_alone_has_its_own_limit() -> None:
    settings = EngineSettings(memory_megabytes=512, total_memory_megabytes=1300, concurrent_queries=4)
    sql = "SELECT current_setting('memory_limit') AS limit_"
    engine = Engine(settings)
    with ExitStack() as stack:
        queries = [stack.enter_context(engine.query(sql, {})) for _ in range(12)]
        limits = [round(megabytes(query.table()["limit_"][0].as_py())) for query in queries]
    assert limits[0] == settings.memory_megabytes
    assert min(limits) >= LEAST_MEGABYTES - 1
    assert sum(limits) <= 1300
    with engine.query(sql, {}) as query:
        assert round(megabytes(query.table()["limit_"][0].as_py())) == settings.memory_megabytes
    engine.close()


def limits_of_idle(engine: Engine) -> list[int]:
    sql = "SELECT current_setting('memory_limit')"
    found = [database.connection.execute(sql).fetchone() for database in engine._idle]  # noqa: SLF001
    return [round(megabytes(limit)) for (limit,) in found]


def test_an_idle_database_keeps_its_memory_until_another_holder_of_the_budget_needs_it() -> None:
    budget = MemoryBudget(1300)
    stranger = budget.least_share(1, wanted=64)
    engine = Engine(EngineSettings(memory_megabytes=512), budget=budget)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(engine.query("SELECT 1", {}))
    kept = limits_of_idle(engine)
    assert max(kept) == 512
    taken = budget.take(stranger, 900)
    assert max(limits_of_idle(engine)) <= LEAST_MEGABYTES
    assert taken > 512
    assert taken + sum(limits_of_idle(engine)) <= 1300
    engine.close()
