"""Work on a share ends whole before the membership does, also when a part of it fails."""

import asyncio
from collections.abc import Awaitable, Callable, Set
from typing import Any, Self

import pytest
from k2common.kafka.consumer import Place
from k2common.runtime import assignment as share
from k2common.runtime.assignment import Assignment, Work
from k2common.runtime.readiness import Readiness
from k2common.runtime.retry import lasting
from k2common.settings.kafka import KafkaSettings

ended: list[str] = []


class Member:
    """Is given one partition at once."""

    def __init__(self, *_: Any, changed: Callable[[Set[Place]], Awaitable[None]], **__: Any) -> None:
        self._changed = changed

    async def __aenter__(self) -> Self:
        self._given = asyncio.ensure_future(self._changed({("t", 0)}))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._given
        ended.append("membership")


async def fails(_stop: asyncio.Event) -> None:
    raise ValueError("for good")


async def lasts(stop: asyncio.Event) -> None:
    await stop.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    ended.append("work")


async def test_the_others_end_before_the_partitions_are_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    ended.clear()
    monkeypatch.setattr(share, "Membership", Member)
    works: dict[str, Work] = {"fails": fails, "lasts": lasts}
    made = Assignment(
        KafkaSettings(bootstrap_servers="x:1"),
        group="g",
        topics=["t"],
        works=lambda places: works if places else {},
        readiness=Readiness(),
    )
    with pytest.raises(ValueError, match="for good"):
        await asyncio.wait_for(made.run(asyncio.Event()), 10)
    assert ended == ["work", "membership"]


async def test_work_that_a_library_has_cancelled_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "Membership", Member)
    stop, begun = asyncio.Event(), 0

    async def cancelled_once(_ended: asyncio.Event) -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        stop.set()

    made = Assignment(
        KafkaSettings(bootstrap_servers="x:1"),
        group="g",
        topics=["t"],
        works=lambda places: {"work": cancelled_once} if places else {},
        readiness=Readiness(),
    )
    await asyncio.wait_for(made.run(stop), 10)
    assert begun == 2


async def test_work_that_is_told_to_end_is_not_begun_anew() -> None:
    begun = 0

    async def work(_stop: asyncio.Event) -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    task = asyncio.ensure_future(lasting("work", work, asyncio.Event())())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=10)
    assert (task.cancelled(), begun) == (True, 1)
