"""When a venue trades, by `exchange_calendars` and the venue's ISO 10383 code; early closes and holidays too.

The library is loaded when it is first asked, since that takes seconds that only some requests need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache
from typing import Any

from k2common.errors import RecordError

OPEN_ALWAYS = "24/7"
YEARS = 8
"""Calendars are built and kept for this many years at a time."""


class UnknownVenue(RecordError):
    """No calendar is known for the venue, or none for these years."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session: its date, and its spans [open, close) in nanoseconds; two where there is a break."""

    day: date
    spans: tuple[tuple[int, int], ...]


def venue_zone(venue: str) -> str:
    """The zone of the venue's clock.

    Raises UnknownVenue.
    """
    return str(_calendar(_known(venue), *_years(date(2020, 1, 1))).tz)


def sessions(venue: str, first: date, last: date) -> Sequence[Session]:
    """The venue's sessions of the days from `first` to `last`, both included, in their order.

    A session may begin on the day before its own. Raises UnknownVenue.
    """
    name = _known(venue)
    found: list[Session] = []
    at = first
    while at <= last:
        years = _years(at)
        end = min(last, date(years[1], 12, 31))
        found += _between(_calendar(name, *years), at, end)
        at = date(years[1] + 1, 1, 1)
    return found


def _between(calendar: Any, first: date, last: date) -> Sequence[Session]:
    rows = calendar.schedule.loc[first.isoformat() : last.isoformat()]
    days = [moment.date() for moment in rows.index]
    columns = (
        rows[name].dt.as_unit("ns").astype("int64") for name in ("open", "break_start", "break_end", "close")
    )
    times = zip(*(column.to_list() for column in columns), strict=True)
    breaks = rows["break_start"].notna().to_list()
    return [
        Session(day=day, spans=((start, pause), (resume, end)) if has_break else ((start, end),))
        for day, has_break, (start, pause, resume, end) in zip(days, breaks, times, strict=True)
    ]


def _years(day: date) -> tuple[int, int]:
    first = day.year - day.year % YEARS
    return first, first + YEARS - 1


@cache
def _names() -> frozenset[str]:
    from exchange_calendars import get_calendar_names  # noqa: PLC0415

    return frozenset(get_calendar_names(include_aliases=True))


def _known(venue: str) -> str:
    if venue not in _names():
        raise UnknownVenue(f"no calendar is known for venue {venue!r}")
    return venue


@lru_cache(maxsize=64)
def _calendar(name: str, first: int, last: int) -> Any:
    from exchange_calendars import get_calendar  # noqa: PLC0415
    from exchange_calendars.errors import CalendarError  # noqa: PLC0415

    start, end = f"{first}-01-01", f"{last}-12-31"
    try:
        return get_calendar(name, start=start, end=end)
    except (ValueError, CalendarError) as error:
        raise UnknownVenue(f"no calendar of {name} from {first} to {last}: {error}") from error
