"""The numbers of one key, followed day by day and run by run: what is missing, late, doubled or restarted.

However the rows are cut into runs, the same events come out.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = "npt.NDArray[np.int64]"
NEVER = -(2**31)


class Kind(StrEnum):
    """What an event says; docs/guides/gaps-and-quality.md has the rules."""

    RESCANNED = "rescanned"
    UNSEQUENCED = "unsequenced"
    RESET_OVERNIGHT = "reset_overnight"
    RESET_RESTART = "reset_restart"
    SMALL_GAP = "small_gap"
    LARGE_GAP = "large_gap"
    OUT_OF_ORDER = "out_of_order"
    DUPLICATE = "duplicate"
    HEALED = "healed"
    UNTRACKED = "untracked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a gap is large, and how much is remembered.

    A key keeps `days`. A day keeps `open_gaps`, the lowest of more is forgotten. After `events` of a day
    nothing more is said of it. Rows without a number are said of the latest `unsequenced_days`.
    """

    large_gap: int = 1_000
    open_gaps: int = 1_000
    days: int = 40
    events: int = 1_000
    unsequenced_days: int = 1_000


@dataclass(slots=True, eq=False)
class Event:
    """What was found at row `at`, whose time is `ts_ns`.

    `first` and `count` say which numbers, `previous` is the last number before, `start_ns` the time of its
    row. `gap` is the event that a healed one heals, `number` which of all events this is, once that is known.
    """

    kind: Kind
    day: int
    at: int
    ts_ns: int
    first: int | None = None
    count: int | None = None
    previous: int | None = None
    start_ns: int | None = None
    gap: Event | None = None
    number: int = -1


@dataclass(slots=True)
class OpenGap:
    """Numbers `first` to `end` (exclusive) that have not come; rows from day `since` on may bring them."""

    first: int
    end: int
    since: int
    event: Event


@dataclass(slots=True)
class Numbering:
    """A day's numbers from `first` to `last`: all have come but those of the open gaps, which are in order.

    Of other numbers below `first` nothing is known. `last_ns` is the time of the row that brought `last`,
    `newest_ns` the latest of any row. `since` is the day before, where a gap lies between the two.
    """

    day: int
    started: bool = False
    first: int = 0
    last: int = -1
    last_ns: int = 0
    newest_ns: int = 0
    since: int | None = None
    events: int = 0
    untracked: bool = False
    gaps: list[OpenGap] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Rows of one day with the numbers from `first` on, one each: their times, and which rows they are."""

    day: int
    first: int
    times: Integers
    rows: Integers

    @property
    def end(self) -> int:
        return self.first + len(self.times)


class Key:
    """All that is remembered of one key."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.days: dict[int, Numbering] = {}
        """The day that had a row last stands last."""
        self.previous: tuple[int, int] | None = None
        """Day and number of the last row."""
        self.unsequenced: set[int] = set()
        """The latest days with rows that have no number."""
        self.forgotten = NEVER
        """The latest day that was forgotten."""
        self.events: list[Event] = []
        """What was found since the last call of `settle`."""
        self._growing: dict[tuple[Kind, int], Event] = {}

    def settle(self) -> list[Event]:
        """The events since the last call; they grow no more."""
        events, self.events, self._growing = self.events, [], {}
        return events

    def joined(self, day: int) -> frozenset[int]:
        """The day and all days that a gap joins to it: they stand or fall together."""
        found = {day}
        while more := {
            n.day
            for n in self.days.values()
            if n.since is not None and n.day not in found and any(n.since <= d < n.day for d in found)
        }:
            found |= more
        return frozenset(found)

    def forget(self, day: int) -> None:
        """Restart with the day."""
        self.days.pop(day, None)
        self.unsequenced.discard(day)
        if self.previous is not None and self.previous[0] == day:
            self.previous = None

    def say_unsequenced(self, day: int, *, row: int, ts_ns: int) -> None:
        """A row of the day has no number; this is said once."""
        if day in self.unsequenced:
            return
        if len(self.unsequenced) >= self._limits.unsequenced_days:
            earliest = min(self.unsequenced)
            if day < earliest:
                return
            self.unsequenced.remove(earliest)
        self.unsequenced.add(day)
        self.events.append(Event(Kind.UNSEQUENCED, day, row, ts_ns))

    def take(self, run: Run) -> None:
        """Follow the run."""
        numbering = self._of(run.day)
        follows = self.previous == (run.day, run.first - 1)
        self.previous = (run.day, run.end - 1)
        if not numbering.started and not numbering.untracked:
            self._start(numbering, run)
        if numbering.untracked:
            return
        if run.first > numbering.last:
            self._advance(numbering, run, begin=run.first)
        elif not follows and self._restarts(numbering, run):
            self._say(numbering, Kind.RESET_RESTART, run, run.first, count=None)
            numbering.first, numbering.last, numbering.gaps = run.first, run.first - 1, []
            self._advance(numbering, run, begin=run.first)
        else:
            self._late(numbering, run)
        numbering.newest_ns = max(numbering.newest_ns, int(run.times.max()))

    def _of(self, day: int) -> Numbering:
        numbering = self.days.pop(day, None) or Numbering(day)
        self.days[day] = numbering
        if len(self.days) > self._limits.days:
            oldest = next(iter(self.days))
            self.forgotten = max(self.forgotten, oldest)
            del self.days[oldest]
        return numbering

    def _start(self, numbering: Numbering, run: Run) -> None:
        """The day's first number: it goes on from the day before, leaves a gap, or restarts."""
        numbering.started = True
        numbering.newest_ns = int(run.times[0])
        numbering.first, numbering.last = run.first, run.first - 1
        earlier = (n for n in self.days.values() if n.day < run.day and n.started and not n.untracked)
        before = max(earlier, key=lambda n: n.day, default=None)
        if before is None or run.day <= self.forgotten:
            return
        if run.first <= before.last:
            self._say(numbering, Kind.RESET_OVERNIGHT, run, run.first, count=None, before=before)
        elif run.first > before.last + 1:
            numbering.since = before.day
            self._open(numbering, run, before)
            self._heal_later_days(numbering, run, before.last + 1, run.first)

    def _advance(self, numbering: Numbering, run: Run, *, begin: int) -> None:
        """The run's numbers from `begin` on are new."""
        old = numbering.last
        if begin > old + 1:
            self._open(numbering, run, numbering)
        if numbering.untracked:
            return
        numbering.last, numbering.last_ns = run.end - 1, int(run.times[-1])
        self._heal_later_days(numbering, run, old + 1, run.end)

    def _restarts(self, numbering: Numbering, run: Run) -> bool:
        """Whether the venue restarted: later than every row before, and not merely late or doubled."""
        if _gap_at(numbering, run.first) is not None or run.times[0] <= numbering.newest_ns:
            return False
        return run.first <= numbering.first or numbering.last - run.first >= self._limits.large_gap

    def _late(self, numbering: Numbering, run: Run) -> None:
        """The run begins with numbers that are not new."""
        number = run.first
        while number < min(run.end, numbering.last + 1) and not numbering.untracked:
            gap = _gap_at(numbering, number)
            if gap is not None:
                end = min(run.end, gap.end)
                self._say(numbering, Kind.HEALED, run, number, count=end - number, gap=gap.event)
                self._close(numbering, gap, number, end)
            else:
                end = min(run.end, _until(numbering, number))
                kind = Kind.OUT_OF_ORDER if number < numbering.first else Kind.DUPLICATE
                self._say(numbering, kind, run, number, count=end - number)
            number = end
        if number < run.end and not numbering.untracked:
            self._advance(numbering, run, begin=number)

    def _open(self, numbering: Numbering, run: Run, before: Numbering) -> None:
        """Numbers are missing between the last of `before` and the run."""
        first, count = before.last + 1, run.first - before.last - 1
        kind = Kind.LARGE_GAP if count >= self._limits.large_gap else Kind.SMALL_GAP
        event = self._say(numbering, kind, run, first, count=count, before=before)
        if event is not None:
            numbering.gaps.append(OpenGap(first, run.first, before.day, event))
            self._bound(numbering)

    def _heal_later_days(self, numbering: Numbering, run: Run, first: int, end: int) -> None:
        """Numbers that came, or that this day misses itself, are not missing before a later day."""
        for other in list(self.days.values()):
            if other.day <= numbering.day or other.since is None:
                continue
            for gap in list(other.gaps):
                low, high = max(first, gap.first), min(end, gap.end)
                if gap.since <= numbering.day and low < high and not other.untracked:
                    self._say(other, Kind.HEALED, run, low, count=high - low, gap=gap.event)
                    self._close(other, gap, low, high)

    def _close(self, numbering: Numbering, gap: OpenGap, first: int, end: int) -> None:
        """The numbers `first` to `end` of the gap are no longer missing."""
        if numbering.untracked:
            return
        parts = [(gap.first, first), (end, gap.end)]
        at = next(n for n, known in enumerate(numbering.gaps) if known is gap)
        numbering.gaps[at : at + 1] = [OpenGap(a, b, gap.since, gap.event) for a, b in parts if a < b]
        self._bound(numbering)

    def _bound(self, numbering: Numbering) -> None:
        if len(numbering.gaps) > self._limits.open_gaps:
            numbering.first = max(numbering.first, numbering.gaps.pop(0).end)

    def _say(
        self,
        numbering: Numbering,
        kind: Kind,
        run: Run,
        first: int,
        *,
        count: int | None,
        before: Numbering | None = None,
        gap: Event | None = None,
    ) -> Event | None:
        """An event at the row of number `first`; a late number after the one before joins its event."""
        growing = (kind, id(gap) if gap is not None else numbering.day)
        known = self._growing.get(growing)
        if known is not None and count and (known.first or 0) + (known.count or 0) == first:
            known.count = (known.count or 0) + count
            return known
        if numbering.events >= self._limits.events:
            kind, count, gap = Kind.UNTRACKED, None, None
            numbering.untracked, numbering.gaps = True, []
        numbering.events += 1
        index = max(0, first - run.first)
        before = before or numbering
        event = Event(
            kind=kind,
            day=numbering.day,
            at=int(run.rows[index]),
            ts_ns=int(run.times[index]),
            first=first,
            count=count,
            previous=before.last,
            start_ns=before.last_ns,
            gap=gap,
        )
        self.events.append(event)
        if kind in (Kind.HEALED, Kind.DUPLICATE, Kind.OUT_OF_ORDER):
            self._growing[growing] = event
        return None if kind is Kind.UNTRACKED else event


def _gap_at(numbering: Numbering, number: int) -> OpenGap | None:
    at = bisect_right(numbering.gaps, number, key=lambda gap: gap.first) - 1
    return numbering.gaps[at] if at >= 0 and number < numbering.gaps[at].end else None


def _until(numbering: Numbering, number: int) -> int:
    """Up to which number the same can be said as of `number`, which is in no gap."""
    at = bisect_right(numbering.gaps, number, key=lambda gap: gap.first)
    ends = [gap.first for gap in numbering.gaps[at : at + 1]]
    return min([*ends, numbering.first if number < numbering.first else numbering.last + 1])
