"""What a bar spans: a length of time, or a number of trades, units or money."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal, TypeAlias

from k2common.errors import RecordError

SECOND_NS = 1_000_000_000
SHORT_NS = {"Sec": SECOND_NS, "Min": 60 * SECOND_NS, "Hour": 3_600 * SECOND_NS}
MOST = {"Sec": 86_400, "Min": 1_440, "Hour": 24, "Day": 366, "Week": 52, "Month": 120}
TEXT = re.compile(r"(?P<count>[1-9][0-9]{0,4})(?P<unit>Sec|Min|Hour|Day|Week|Month)")
THRESHOLD = re.compile(r"(?P<measure>tick|volume|dollar):(?P<amount>[0-9]{1,16}(?:\.[0-9]{1,12})?)")
MONDAY = date(1970, 1, 5)
EPOCH = date(1970, 1, 1)
PATTERN = re.sub(r"\?P<[a-z]+>", "", f"^({TEXT.pattern}|{THRESHOLD.pattern})$")
"""The same for a JSON schema, without names of groups."""

OTHER_WORDS = {
    "Sec": ("s", "sec", "second"),
    "Min": ("m", "min", "minute"),
    "Hour": ("h", "hour"),
    "Day": ("d", "day"),
    "Week": ("w", "week"),
    "Month": ("M", "mo", "month"),
}
Unit: TypeAlias = Literal["Sec", "Min", "Hour", "Day", "Week", "Month"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """So many seconds, minutes or hours within a day, or so many days, weeks or months of the calendar."""

    count: int
    unit: Unit

    @property
    def width_ns(self) -> int | None:
        """Nanoseconds of a bar shorter than a day; None for whole days and more."""
        return None if self.unit not in SHORT_NS else self.count * SHORT_NS[self.unit]

    def first_day(self, day: date) -> date:
        """The day with which the bar that holds `day` begins.

        Days count from 1970-01-01, weeks from a Monday, months from a January; so 3Month are quarters.
        """
        if self.unit == "Month":
            months = day.year * 12 + day.month - 1
            return _month(months - months % self.count)
        origin, days = (MONDAY, 7 * self.count) if self.unit == "Week" else (EPOCH, self.count)
        return day if self.width_ns else day - timedelta(days=(day - origin).days % days)

    def next_day(self, first: date) -> date:
        """The day with which the bar after the one that begins on `first` begins."""
        if self.unit == "Month":
            return _month(first.year * 12 + first.month - 1 + self.count)
        days = {"Day": self.count, "Week": 7 * self.count}.get(self.unit, 1)
        return first + timedelta(days=days)

    @property
    def spellings(self) -> list[str]:
        """How vendors write it: `1Min`, `1m`, `1min`, `1minute`."""
        return [f"{self.count}{word}" for word in (self.unit, *OTHER_WORDS[self.unit])]

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """So many trades, units of volume, or units of price times size."""

    measure: Literal["tick", "volume", "dollar"]
    amount: Decimal

    def __str__(self) -> str:
        return f"{self.measure}:{self.amount:f}"


Timeframe: TypeAlias = Span | Threshold


def parse_timeframe(text: str) -> Timeframe:
    """The timeframe that `text` names.

    Raises RecordError for anything else, and for a span that is longer than MOST of its unit.
    """
    if match := TEXT.fullmatch(text):
        count, unit = int(match["count"]), match["unit"]
        if count > MOST[unit]:
            raise RecordError(f"a bar is at most {MOST[unit]}{unit}")
        return Span(count=count, unit=unit)  # type: ignore[arg-type] # the pattern names the units
    if match := THRESHOLD.fullmatch(text):
        amount = Decimal(match["amount"])
        if amount <= 0 or (match["measure"] == "tick" and amount != int(amount)):
            raise RecordError(f"{text!r}: the amount is positive, and whole for ticks")
        return Threshold(measure=match["measure"], amount=amount)  # type: ignore[arg-type] # likewise
    raise RecordError(f"{text!r} is no timeframe; give 1Sec, 5Min, 1Hour, 1Day, 1Week, 1Month or tick:1000")


def _month(months: int) -> date:
    return date(months // 12, months % 12 + 1, 1)
