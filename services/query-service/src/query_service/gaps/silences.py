"""Times without rows, cut at the venue's sessions, each with the cause that the evidence allows; pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, TypeAlias

from k2common.domain.sessions import UnknownVenue, sessions
from k2common.domain.time import format_time, to_datetime

from query_service.gaps.parameters import DAY_NS, day_ns

Span: TypeAlias = tuple[date, int, int]
"""A trading date, and from when to when the venue is open on it."""

Line: TypeAlias = tuple[str, int]
"""An upload and a line of it."""

Rejects: TypeAlias = Mapping[str, Sequence[int]]
"""Lines of rejected records by upload, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Whose rows: `always` says that the venue never closes."""

    venue: str
    symbol: str
    source: str
    always: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """No row of the key from `start` to `end`; `before` and `after` are the rows at its ends."""

    key: Key
    start: int
    end: int
    before: Line | None = None
    after: Line | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One entry of the answer."""

    cause: str
    key: Key
    day: date
    start: int
    end: int
    first_sequence: int | None = None
    count: int | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def entry(self, dataset: str) -> dict[str, Any]:
        """As JSON has it; sequence numbers and their differences are text."""
        return {
            "cause": self.cause,
            "dataset": dataset,
            "venue": self.key.venue,
            "symbol": self.key.symbol,
            "source": self.key.source,
            "trading_date": self.day.isoformat(),
            "start": format_time(self.start),
            "end": format_time(self.end),
            "first_sequence": wide(self.first_sequence),
            "count": wide(self.count),
            "evidence": dict(self.evidence),
        }


def wide(number: int | None) -> str | None:
    """Return an integer that may be beyond 2^53 as text: JavaScript cannot hold it exactly."""
    return None if number is None else str(number)


def open_spans(venue: str, first: date, last: date, *, always: bool) -> tuple[Sequence[Span], str | None]:
    """When the venue is open on these dates, and the calendar that says so.

    A venue that never closes, or of which no calendar is known, is open from midnight to midnight, UTC.
    """
    if not always:
        try:
            found = [(s.day, start, end) for s in sessions(venue, first, last) for start, end in s.spans]
            return found, venue
        except UnknownVenue:
            pass
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [(day, day_ns(day), day_ns(day) + DAY_NS) for day in days], "24/7" if always else None


def explained(
    silence: Silence,
    spans: Sequence[Span],
    *,
    least_ns: int,
    ingested: Set[tuple[str, str, date]],
    rejects: Rejects,
    calendar: str | None,
) -> Iterator[Interval]:
    """The silence in intervals of one cause each.

    `ingested` has venue, source and date of all days that have rows of any symbol. Times when the venue is
    open count from `least_ns` on, or when they are a whole session.
    """
    at = silence.start
    for day, opens, closes in spans:
        start, end = max(at, opens), min(silence.end, closes)
        if start >= end:
            continue
        if start > at:
            yield _closed(silence.key, at, start, calendar)
        if end - start >= least_ns or (start, end) == (opens, closes):
            yield _open(silence, day, start, end, ingested=ingested, rejects=rejects, calendar=calendar)
        at = end
    if at < silence.end:
        yield _closed(silence.key, at, silence.end, calendar)


def rejected_between(before: Line | None, after: Line | None, rejects: Rejects) -> int:
    """Rejected records of the files of both rows that stand between them."""
    if before is not None and after is not None and before[0] == after[0]:
        low, high = sorted((before[1], after[1]))
        lines = rejects.get(before[0], ())
        return max(0, bisect_left(lines, high) - bisect_right(lines, low))
    count = 0
    if before is not None:
        lines = rejects.get(before[0], ())
        count += len(lines) - bisect_right(lines, before[1])
    if after is not None:
        count += bisect_left(rejects.get(after[0], ()), after[1])
    return count


def _closed(key: Key, start: int, end: int, calendar: str | None) -> Interval:
    day = to_datetime(start).date()
    evidence = {"calendar": calendar}
    return Interval(cause="session_closed", key=key, day=day, start=start, end=end, evidence=evidence)


def _open(
    silence: Silence,
    day: date,
    start: int,
    end: int,
    *,
    ingested: Set[tuple[str, str, date]],
    rejects: Rejects,
    calendar: str | None,
) -> Interval:
    key = silence.key
    rejected = rejected_between(silence.before, silence.after, rejects)
    evidence: dict[str, Any] = {"calendar": calendar}
    if (key.venue, key.source, day) not in ingested:
        cause = "not_ingested"
    elif rejected:
        cause = "rejected_rows"
        evidence |= {"rejected": rejected, "before": _named(silence.before), "after": _named(silence.after)}
    else:
        cause = "no_activity"
    return Interval(cause=cause, key=key, day=day, start=start, end=end, evidence=evidence)


def _named(line: Line | None) -> Mapping[str, Any] | None:
    return None if line is None else {"upload_id": line[0], "line": line[1]}
