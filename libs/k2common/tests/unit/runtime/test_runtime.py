"""Retries grow and end with the stop; readiness says what is missing."""

import asyncio
from random import Random

import pytest
from k2common.errors import SetupError, TransientError
from k2common.runtime.blocking import Blocking
from k2common.runtime.readiness import Readiness
from k2common.runtime.retry import delays, until_stopped, wait_or_stop


def test_delays_double_to_the_limit_and_are_scattered() -> None:
    waits = delays(first=1, limit=8, random=Random(7))
    for whole in (1, 2, 4, 8, 8, 8):
        assert whole / 2 <= next(waits) <= whole


async def test_work_is_tried_again_after_a_transient_failure_only() -> None:
    tries: list[int] = []

    async def work() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise TransientError("unavailable")
        raise SetupError("wrong")

    with pytest.raises(SetupError):
        await until_stopped(work, stop=asyncio.Event(), name="work", random=Random(1))
    assert len(tries) == 2


async def test_a_stop_ends_the_waiting() -> None:
    stop = asyncio.Event()

    async def work() -> None:
        stop.set()
        raise TransientError("unavailable")

    await until_stopped(work, stop=stop, name="work", random=Random(1))
    assert await wait_or_stop(stop, 3600)


async def test_blocking_work_runs_beside_the_loop_and_its_error_comes_back() -> None:
    blocking = Blocking(workers=1)
    assert await blocking.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await blocking.run(divmod, 7, 0)
    blocking.close()


def test_readiness_names_what_is_missing() -> None:
    readiness = Readiness()
    assert not readiness.blocked
    readiness.waiting("kafka", "unavailable")
    readiness.waiting("tables", "not looked yet")
    readiness.ready("kafka")
    assert readiness.blocked == {"tables": "not looked yet"}
