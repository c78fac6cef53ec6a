"""Tests of time limits without waiting: time passes only when nothing else is left to do."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

Given = ParamSpec("Given")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop for work in memory alone; its clock begins at 0 and jumps to the next timer."""

    def __init__(self) -> None:
        self._waits = _Waits()
        super().__init__(self._waits)

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._waits.seconds


class _Waits(selectors.DefaultSelector):
    """Adds up the waits that a loop asks for, and waits for none that has an end."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            # Work in a thread, whose end nothing but real time brings.
            return list(super().select(None))
        ready = list(super().select(0))
        if not ready:
            self.seconds += max(0.0, timeout)
        return ready


def in_virtual_time(
    test: Callable[Given, Coroutine[Any, Any, None]],
) -> Callable[Given, None]:
    """Return the test as one that runs in a loop of virtual time."""

    @functools.wraps(test)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def seconds_passed() -> float:
    """Return the virtual seconds since the test began."""
    return round(asyncio.get_running_loop().time(), 6)
