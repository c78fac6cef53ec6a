"""Sessions are those of the venue: local times, early closes, holidays, breaks, nights."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from k2common.domain.sessions import OPEN_ALWAYS, UnknownVenue, sessions, venue_zone


def local(venue: str, day: date) -> list[list[str]]:
    zone = ZoneInfo(venue_zone(venue))
    return [
        [f"{datetime.fromtimestamp(ns // 10**9, zone):%d %H:%M}" for ns in span]
        for session in sessions(venue, day, day)
        for span in session.spans
    ]


@pytest.mark.parametrize(
    ("venue", "day", "expected"),
    [
        ("XASX", date(2014, 3, 11), [["11 10:00", "11 16:00"]]),
        # The Sunday before, Sydney's clocks went back.
        ("XASX", date(2014, 4, 7), [["07 10:00", "07 16:00"]]),
        ("XASX", date(2014, 12, 24), [["24 10:00", "24 14:10"]]),
        ("XASX", date(2014, 12, 25), []),
        ("XASX", date(2014, 3, 15), []),
        ("XNAS", date(2013, 11, 29), [["29 09:30", "29 13:00"]]),
        ("XHKG", date(2014, 3, 11), [["11 09:30", "11 12:00"], ["11 13:00", "11 16:00"]]),
        ("CMES", date(2014, 3, 11), [["10 17:00", "11 17:00"]]),
        (OPEN_ALWAYS, date(2014, 3, 15), [["15 00:00", "16 00:00"]]),
    ],
)
def test_a_session_opens_and_closes_by_the_venues_clock(
    venue: str, day: date, expected: list[list[str]]
) -> None:
    assert local(venue, day) == expected


def test_sessions_of_many_years_come_in_their_order_each_once() -> None:
    found = sessions("XASX", date(2007, 12, 20), date(2016, 1, 10))
    days = [session.day for session in found]
    assert days == sorted(set(days))
    assert (days[0], days[-1]) == (date(2007, 12, 20), date(2016, 1, 8))
    assert all(first < end for session in found for first, end in session.spans)


@pytest.mark.parametrize("venue", ["BINANCE", "", "xasx", "../XASX"])
def test_a_venue_without_a_calendar_is_named(venue: str) -> None:
    with pytest.raises(UnknownVenue, match="no calendar is known"):
        venue_zone(venue)


def test_years_without_a_calendar_are_named() -> None:
    with pytest.raises(UnknownVenue, match="from 1888 to 1895"):
        sessions("XHKG", date(1890, 1, 1), date(1890, 1, 2))
