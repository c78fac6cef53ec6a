"""Times are read exactly, and what is no time is refused."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.domain.time import format_datetime, format_time, parse_time, to_datetime
from k2common.errors import RecordError


@given(st.integers(-(2**60), 2**62))
def test_a_time_that_was_written_reads_back(nanoseconds: int) -> None:
    assert parse_time(format_time(nanoseconds)) == nanoseconds
    assert parse_time(str(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-10", "2024-03-10T00:00:00.000000000Z"),
        ("2024-03-10T10:30", "2024-03-10T10:30:00.000000000Z"),
        ("2024-03-10T10:30:01.5+01:00", "2024-03-10T09:30:01.500000000Z"),
        ("2024-03-10 10:30:01.123456789z", "2024-03-10T10:30:01.123456789Z"),
    ],
)
def test_forms_of_times(text: str, expected: str) -> None:
    assert format_time(parse_time(text)) == expected


def test_a_naive_time_is_in_the_zone_that_is_given() -> None:
    assert format_time(parse_time("2014-03-11", zone="Australia/Sydney")) == "2014-03-10T13:00:00.000000000Z"


@pytest.mark.parametrize(
    "text", ["", "now", "2024-13-01", "2024-01-01T25:00", "99999999999999999999", "3000-01-01"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match=r"no time|further"):
        parse_time(text)


def test_a_datetime_is_rounded_down() -> None:
    assert to_datetime(-1) == datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


def test_a_datetime_has_nine_digits_in_utc() -> None:
    moment = datetime(2024, 3, 10, 12, 0, 0, 1, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert format_datetime(moment) == "2024-03-10T03:00:00.000001000Z"
