"""A bound on what runs side by side: more wait, callers round-robin, and beyond a limit they are refused."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from k2common.errors import TransientError

CALLER: ContextVar[str] = ContextVar("k2_caller", default="")
"""Whose work this is: the id of a key, or an address."""

BEGUN: ContextVar[bool] = ContextVar("k2_begun", default=False)
"""Whether a part of the answer has been sent: a refusal would cut it off."""


class Overloaded(TransientError):
    """As much waits as may; the same call may succeed in a moment."""


class TooManyAtOnce(TransientError):
    """This caller alone has as much waiting as one may have."""


class AdmissionQueue:
    """Lets `width` in at once and `waiting` more wait; one caller may have half of the waiting places.

    At most `per_caller` of one caller are inside at once.

    Callers take turns, each of them in the order of its calls: one with many does not hold up the others.
    """

    def __init__(self, *, width: int, waiting: int, seconds: float, per_caller: int | None = None) -> None:
        self._width = self._free = width
        self._per_caller = width if per_caller is None else per_caller
        self._inside: Counter[str] = Counter()
        self._limit = waiting
        self._seconds = seconds
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def inside(self) -> int:
        """How many are inside."""
        return self._width - self._free

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(queue) for queue in self._queues.values())

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        """Inside the gate.

        Raises Overloaded or TooManyAtOnce, and Overloaded when the turn did not come within `seconds`. Work
        for an answer that has begun waits for its turn as long as it takes.
        """
        caller = CALLER.get()
        await self._enter(caller, begun=BEGUN.get())
        try:
            yield
        finally:
            self._leave(caller)

    async def _enter(self, caller: str, *, begun: bool) -> None:
        if self._admits(caller):
            self._let_in(caller)
            return
        if self.waiting >= self._limit and not begun:
            raise Overloaded(f"{self._limit} queries wait already")
        queue = self._queues.setdefault(caller, deque())
        if len(queue) >= max(1, self._limit // 2) and not begun:
            raise TooManyAtOnce(f"{len(queue)} queries of this caller wait already")
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        await self._until(turn, caller, seconds=None if begun else self._seconds)

    async def _until(self, turn: asyncio.Future[None], caller: str, *, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done() and not turn.cancelled():
                self._leave(caller)  # the turn came in the same moment
            else:
                self._forget(turn, caller)
            if isinstance(error, TimeoutError) and self._free:
                raise TooManyAtOnce(f"{self._per_caller} of this caller run already") from None
            if isinstance(error, TimeoutError):
                raise Overloaded(f"the query did not begin within {self._seconds:g} s") from None
            raise

    def _admits(self, caller: str) -> bool:
        return self._free > 0 and self._inside[caller] < self._per_caller

    def _let_in(self, caller: str) -> None:
        self._free -= 1
        self._inside[caller] += 1

    def _leave(self, caller: str) -> None:
        self._free += 1
        self._inside[caller] -= 1
        if not self._inside[caller]:
            del self._inside[caller]
        while (following := next(filter(self._admits, self._queues), None)) is not None:
            self._admit_first_of(following)

    def _admit_first_of(self, caller: str) -> None:
        queue = self._queues.pop(caller)
        turn = queue.popleft()
        if queue:
            # To the end: the callers take turns.
            self._queues[caller] = queue
        if not turn.done():
            self._let_in(caller)
            turn.set_result(None)

    def _forget(self, turn: asyncio.Future[None], caller: str) -> None:
        queue = self._queues.get(caller)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._queues[caller]
