"""Where bars begin: the days, weeks and months of a clock, cut to the sessions of a venue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from k2common.domain.sessions import sessions
from k2common.domain.time import EPOCH, to_datetime

from query_service.bars.timeframes import Span, Timeframe

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
CLOCK_DAY = Span(count=1, unit="Day")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of time [first_ns, end_ns) of a venue in which trades count.

    `anchor_ns` and `stop_ns` are the start and end of what it is a piece of: of the whole bar, or of the
    day that shorter bars divide.
    """

    venue: str
    first_ns: int
    end_ns: int
    anchor_ns: int
    stop_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Per venue the zone in which bars begin; `calendars` has the venues of which only sessions count."""

    zones: Mapping[str, str]
    calendars: frozenset[str] = frozenset()

    @property
    def is_one(self) -> bool:
        """Whether bars of all venues begin together."""
        return len(set(self.zones.values())) < 2

    def pieces(self, timeframe: Timeframe, lo: int, hi: int) -> Sequence[Piece]:
        """What counts of all periods that touch [lo, hi), whole periods at both ends."""
        found: list[Piece] = []
        for venue, zone in self.zones.items():
            bounds = boundaries(timeframe, zone, lo, hi)
            spans = self._spans(venue, bounds[0], bounds[-1])
            found += _cut(venue, bounds, spans)
        return found

    def cuts(self, timeframe: Timeframe, lo: int, hi: int, *, periods: int) -> Iterator[tuple[int, int]]:
        """[lo, hi) in parts that end where bars of all venues end, each of so many days or bars.

        Venues whose bars begin at different times leave it whole.
        """
        if not self.is_one:
            yield lo, hi
            return
        (zone,) = set(self.zones.values())
        at = lo
        while at < hi:
            # A year of bounds at a time, so that a long range needs no long list.
            bounds = boundaries(timeframe, zone, at, min(hi, at + (periods + 2) * _longest(timeframe)))
            end = bounds[min(periods, len(bounds) - 1)]
            yield at, min(end, hi)
            at = end

    def _spans(self, venue: str, lo: int, hi: int) -> Sequence[tuple[int, int]]:
        if venue not in self.calendars:
            return [(lo, hi)]
        # A session may begin the evening before its day, or end after it.
        first, last = to_datetime(lo).date() - 2 * DAY, to_datetime(hi).date() + 2 * DAY
        return [span for session in sessions(venue, first, last) for span in session.spans]


def boundaries(timeframe: Timeframe, zone: str, lo: int, hi: int) -> Sequence[int]:
    """The starts of all periods that touch [lo, hi), and the end of the last one; strictly rising.

    A period is a bar of whole days, or the day that shorter bars divide.
    """
    span = timeframe if isinstance(timeframe, Span) else CLOCK_DAY
    day = span.first_day(_local_day(lo, zone) - DAY)
    bounds = [day_start(day, zone)]
    while bounds[-1] < hi or len(bounds) < 2:
        day = span.next_day(day)
        start = day_start(day, zone)
        # A zone may leave a whole day out.
        if start > bounds[-1]:
            bounds.append(start)
    first = max(index for index, start in enumerate(bounds) if start <= lo)
    return bounds[first:] if first < len(bounds) - 1 else bounds[-2:]


def day_start(day: date, zone: str) -> int:
    """The instant at which the zone's clock first shows midnight, or leaps over it, in nanoseconds."""
    moment = datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)
    return (moment - EPOCH) // SECOND * 10**9


def _local_day(ns: int, zone: str) -> date:
    return to_datetime(ns).astimezone(ZoneInfo(zone)).date()


def _longest(timeframe: Timeframe) -> int:
    days = {"Week": 7, "Month": 31}.get(timeframe.unit, 1) if isinstance(timeframe, Span) else 1
    count = timeframe.count if isinstance(timeframe, Span) and timeframe.width_ns is None else 1
    return (days * count + 1) * 86_400 * 10**9


def _cut(venue: str, bounds: Sequence[int], spans: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    """The parts of the periods that lie in a span; both are in order and do not overlap."""
    at = 0
    for start, stop in pairwise(bounds):
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        for first, end in islice(spans, at, None):
            if first >= stop:
                break
            yield Piece(
                venue=venue,
                first_ns=max(first, start),
                end_ns=min(end, stop),
                anchor_ns=start,
                stop_ns=stop,
            )
