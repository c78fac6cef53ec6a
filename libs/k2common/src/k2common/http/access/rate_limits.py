"""How many requests a client may make: a token bucket per key, or per address where keys are off."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil

from k2common.runtime.clock import Clock

KEPT_CLIENTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Whether a request may pass, how many more may, and in how many seconds the bucket is full."""

    passes: bool
    remaining: int
    retry_seconds: int
    reset_seconds: int


class RateLimit:
    """`burst` requests at once and `per_second` on average, for each of the clients seen last."""

    def __init__(self, *, per_second: float, burst: int, clock: Clock) -> None:
        self._per_second = per_second
        self.burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> Allowance:
        """Take a token of the client's bucket, if there is one."""
        now = self._clock.monotonic()
        tokens, at = self._buckets.get(client, (float(self.burst), now))
        tokens = min(self.burst, tokens + (now - at) * self._per_second)
        passes = tokens >= 1
        if passes:
            tokens -= 1
        self._buckets[client] = (tokens, now)
        self._buckets.move_to_end(client)
        while len(self._buckets) > KEPT_CLIENTS:
            self._buckets.popitem(last=False)
        return Allowance(
            passes=passes,
            remaining=int(tokens),
            retry_seconds=0 if passes else max(1, ceil((1 - tokens) / self._per_second)),
            reset_seconds=ceil((self.burst - tokens) / self._per_second),
        )
