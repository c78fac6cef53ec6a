"""So many inside, so many waiting, callers round-robin, everything else refused."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

import pytest
from k2common.query.admission import BEGUN, CALLER, AdmissionQueue, Overloaded, TooManyAtOnce
from k2common.testing.virtual_time import in_virtual_time, seconds_passed


def started(caller: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
    """The work as this caller's."""
    context = copy_context()
    context.run(CALLER.set, caller)
    return asyncio.get_running_loop().create_task(work(), context=context)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_callers_take_turns_however_much_one_of_them_wants() -> None:
    gate = AdmissionQueue(width=1, waiting=100, seconds=60)
    order: list[str] = []

    def work(name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def inside() -> None:
            async with gate.passed():
                order.append(name)
                await asyncio.sleep(0)

        return inside

    async with gate.passed():
        tasks = [started("a", work(f"a{n}")) for n in range(4)]
        await settle()
        tasks += [started("b", work(f"b{n}")) for n in range(2)]
        await settle()
    await asyncio.gather(*tasks)
    assert order == ["a0", "b0", "a1", "b1", "a2", "a3"]
    assert gate.waiting == 0


async def test_more_than_may_wait_is_refused_and_one_caller_has_half_of_the_places() -> None:
    gate, leave = AdmissionQueue(width=1, waiting=4, seconds=60), asyncio.Event()

    async def inside() -> None:
        async with gate.passed():
            await leave.wait()

    tasks = [started("a", inside) for _ in range(3)]
    await settle()
    with pytest.raises(TooManyAtOnce):
        await started("a", inside)
    tasks += [started(caller, inside) for caller in "bc"]
    await settle()
    assert gate.waiting == 4
    with pytest.raises(Overloaded):
        await started("d", inside)
    leave.set()
    await asyncio.gather(*tasks)


@in_virtual_time
async def test_a_turn_that_does_not_come_in_time_is_given_up() -> None:
    gate = AdmissionQueue(width=1, waiting=4, seconds=10)
    async with gate.passed():
        with pytest.raises(Overloaded):
            async with gate.passed():
                raise AssertionError
        assert (gate.waiting, seconds_passed()) == (0, 10)
    async with gate.passed():
        pass


@in_virtual_time
async def test_an_answer_that_has_begun_is_not_cut_off_but_waits_its_turn() -> None:
    gate, leave, done = AdmissionQueue(width=1, waiting=1, seconds=10), asyncio.Event(), []

    async def holds() -> None:
        async with gate.passed():
            await leave.wait()

    async def goes_on() -> None:
        BEGUN.set(True)
        async with gate.passed():
            done.append(True)

    tasks = [started("a", holds)]
    await settle()
    tasks += [started("a", goes_on) for _ in range(3)]
    await settle()
    with pytest.raises(Overloaded):
        await started("b", holds)
    await asyncio.sleep(3600)
    assert not done
    leave.set()
    await asyncio.gather(*tasks)
    assert len(done) == 3


async def test_a_caller_who_goes_leaves_its_place_to_the_next() -> None:
    gate, order = AdmissionQueue(width=1, waiting=10, seconds=60), []

    async def inside(name: str) -> None:
        async with gate.passed():
            order.append(name)

    async with gate.passed():
        gone, stays = (started("a", lambda n=name: inside(n)) for name in ("gone", "stays"))
        await settle()
        gone.cancel()
        await settle()
    await stays
    assert order == ["stays"]
    # The turn came and the caller went in the same moment.
    async with gate.passed():
        late = started("a", lambda: inside("late"))
        await settle()
    late.cancel()
    await asyncio.wait({late})
    async with asyncio.timeout(5), gate.passed():
        pass


async def test_one_caller_has_so_many_places_inside_and_the_rest_are_for_others() -> None:
    gate, leave = AdmissionQueue(width=3, waiting=10, seconds=60, per_caller=2), asyncio.Event()

    async def inside() -> None:
        async with gate.passed():
            await leave.wait()

    tasks = [started("a", inside) for _ in range(3)]
    await settle()
    assert (gate.inside, gate.waiting) == (2, 1)
    tasks += [started("b", inside) for _ in range(2)]
    await settle()
    assert (gate.inside, gate.waiting) == (3, 2)
    leave.set()
    await asyncio.gather(*tasks)
    assert (gate.inside, gate.waiting) == (0, 0)


@in_virtual_time
async def test_a_caller_who_has_all_its_places_is_told_so() -> None:
    gate = AdmissionQueue(width=2, waiting=10, seconds=10, per_caller=1)
    async with gate.passed():
        with pytest.raises(TooManyAtOnce):
            async with gate.passed():
                raise AssertionError
