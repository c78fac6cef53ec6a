"""When a process that died is started again."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_SECONDS = 0.2
LONGEST_SECONDS = 10.0
STEADY_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Deaths in a row of one process; pure, `now` is in seconds of a monotonic clock."""

    deaths: int = 0
    not_before: float = 0.0

    def died(self, *, started: float, now: float) -> Backoff:
        """After a death: the wait doubles, unless the process had been running steadily."""
        deaths = 1 if now - started > STEADY_SECONDS else self.deaths + 1
        wait = min(FIRST_SECONDS * 2 ** (deaths - 1), LONGEST_SECONDS)
        return Backoff(deaths=deaths, not_before=now + wait)
