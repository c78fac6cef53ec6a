"""Times as people write them, to nanoseconds since 1970 in UTC and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from k2common.errors import RecordError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INTEGER = re.compile(r"-?[0-9]{1,19}")
RFC3339 = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<time>[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:\.(?P<fraction>[0-9]{1,9}))?"
    r"(?P<zone>[Zz]|[+-][0-9]{2}:?[0-9]{2})?)?"
)
LIMIT = 2**63
MICROSECOND = timedelta(microseconds=1)


def parse_time(text: str, *, zone: str = "UTC") -> int:
    """Nanoseconds since 1970 of RFC 3339, a date or an integer of nanoseconds; `zone` where none is named.

    Raises RecordError for anything else.
    """
    if INTEGER.fullmatch(text):
        nanoseconds = int(text)
    else:
        match = RFC3339.fullmatch(text)
        if match is None:
            raise RecordError(f"{text!r} is no time; give RFC 3339, a date or nanoseconds since 1970")
        try:
            moment = datetime.fromisoformat(
                f"{match['date']}T{match['time'] or '00:00'}{(match['zone'] or '').upper()}"
            )
        except ValueError as error:
            raise RecordError(f"{text!r} is no time: {error}") from error
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=ZoneInfo(zone))
        seconds = (moment - EPOCH) // timedelta(seconds=1)
        nanoseconds = seconds * 10**9 + int((match["fraction"] or "").ljust(9, "0"))
    if not -LIMIT <= nanoseconds < LIMIT:
        raise RecordError(f"{text!r} is further from 1970 than nanoseconds can say")
    return nanoseconds


def format_time(nanoseconds: int) -> str:
    """RFC 3339 in UTC with nine digits."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    moment = EPOCH + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def to_datetime(nanoseconds: int) -> datetime:
    """The same with microseconds, rounded down."""
    return EPOCH + timedelta(microseconds=nanoseconds // 1000)


def format_datetime(moment: datetime) -> str:
    """The same of an aware datetime."""
    return format_time((moment - EPOCH) // MICROSECOND * 1000)
