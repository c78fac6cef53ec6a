"""How long the steps of one request took, for its answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from k2common.runtime.clock import Clock, SystemClock

_STEPS: ContextVar[defaultdict[str, float] | None] = ContextVar("k2_timings", default=None)


def begin() -> None:
    """From here on the steps of this task, and of those that it starts, are one request's."""
    _STEPS.set(defaultdict(float))


@contextmanager
def step(name: str, *, clock: Clock = SystemClock()) -> Iterator[None]:  # noqa: B008 - has no state
    """Count the time within as part of the step; outside of a request nothing is counted."""
    steps = _STEPS.get()
    started = clock.monotonic()
    try:
        yield
    finally:
        if steps is not None:
            steps[name] += clock.monotonic() - started


def so_far() -> Mapping[str, float]:
    """Milliseconds by step, as `<step>_ms`."""
    return {f"{name}_ms": round(seconds * 1000, 3) for name, seconds in (_STEPS.get() or {}).items()}
