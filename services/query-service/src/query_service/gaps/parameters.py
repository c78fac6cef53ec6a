"""The parameters of differences, gaps and the condition of a dataset."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date
from typing import Annotated, Literal

from fastapi import Query
from k2common.domain.time import parse_time
from k2common.engine.scan import Filter
from pydantic import BaseModel, ConfigDict, Field

from query_service.answers.parameters import MAX_PAGE, fault, split, symbols_of, time_of, zone_of

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
MAX_DAYS = 366
TIMEFRAMES = {
    "1Sec": SECOND_NS,
    "1Min": 60 * SECOND_NS,
    "5Min": 300 * SECOND_NS,
    "15Min": 900 * SECOND_NS,
    "1Hour": 3_600 * SECOND_NS,
    "1Day": DAY_NS,
}
CAUSES = ("sequence_break", "rejected_rows", "not_ingested", "session_closed", "no_activity")


class PagedParameters(BaseModel):
    """A list in pages."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=1_000, ge=1, le=MAX_PAGE, description="Entries of a page.", examples=[1_000])
    page_token: str | None = Field(
        default=None,
        max_length=4_000,
        description="The `next_page_token` of the page before; the other parameters stay the same.",
        json_schema_extra={"format": "k2-page-token"},
    )
    symbols: str = Field(
        default="*",
        min_length=1,
        max_length=100_000,
        description="Up to 2,000 symbols by commas; `*` is all.",
        examples=["BHP,RIO"],
    )
    venues: str | None = Field(
        default=None, max_length=10_000, description="Venues by commas; all without it.", examples=["XASX"]
    )
    source: str | None = Field(
        default=None, max_length=256, description="Rows of this feed alone.", examples=["asx"]
    )

    def digest(self) -> str:
        """Tells whether a page token belongs to the request."""
        text = self.model_dump_json(exclude={"limit", "page_token", "as_of"})
        return hashlib.sha256(f"{type(self).__name__} {text}".encode()).hexdigest()[:16]

    def to_filter(self) -> Filter:
        """The conditions that all these lists have. Raises Problem 400."""
        return Filter(symbols=symbols_of(self.symbols), venues=split(self.venues), source=self.source)


class DiffParameters(PagedParameters):
    """Two versions of a dataset."""

    before: str = Field(
        alias="from",
        min_length=1,
        max_length=500,
        description="The version to begin with: a token, a time, a tag or a snapshot id, as for `as_of`.",
        examples=["trades@12"],
    )
    after: str | None = Field(
        default=None,
        alias="to",
        min_length=1,
        max_length=500,
        description="The version to compare with it; the newest without it.",
        examples=["trades@15"],
    )
    dataset: Literal["trades", "quotes", "bars"] = Field(
        default="trades", description="Whose rows.", examples=["trades"]
    )


class AsOfParameters(PagedParameters):
    """A list that is read from versions."""

    as_of: str | None = Field(
        default=None,
        max_length=500,
        description="Read as of this version token, time, tag or snapshot id; the newest without it.",
        examples=["trades@12"],
    )


class GapsParameters(AsOfParameters):
    """A range in which to look for what is missing."""

    dataset: Literal["trades", "quotes"] = Field(
        default="trades", description="Whose rows.", examples=["trades"]
    )
    start: str | None = Field(
        default=None,
        max_length=40,
        description="First time, inclusive: RFC 3339, a date or nanoseconds; with `end`, at most 366 days.",
        examples=["2014-03-11T00:00:00Z"],
    )
    end: str | None = Field(
        default=None, max_length=40, description="Last time, exclusive.", examples=["2014-03-12"]
    )
    trading_date: date | None = Field(
        default=None,
        description="This date of the venues' calendars, in the place of start and end.",
        examples=["2014-03-11"],
    )
    timezone: str = Field(
        default="UTC",
        max_length=64,
        description="The zone of start and end where they name none.",
        examples=["Australia/Sydney"],
    )
    timeframe: Literal["1Sec", "1Min", "5Min", "15Min", "1Hour", "1Day"] = Field(
        default="1Hour",
        description="A time without rows counts from this length on, or when it is a whole session.",
        examples=["15Min"],
    )
    causes: str | None = Field(
        default=None,
        max_length=200,
        description=f"Only these causes, by commas, of {', '.join(CAUSES)}.",
        examples=["sequence_break,rejected_rows"],
    )
    healed: bool = Field(
        default=False,
        description="Also gaps whose numbers have all come later.",
        examples=[True],
    )

    def to_range(self) -> Filter:
        """The conditions with a range. Raises Problem 400."""
        wanted = self.to_filter()
        if self.trading_date is not None:
            if self.start is not None or self.end is not None:
                raise fault("trading_date", "give a trading_date, or start and end", None)
            return replace(wanted, trading_date=self.trading_date.isoformat())
        zone = zone_of(self.timezone)
        start, end = time_of("start", self.start, zone), time_of("end", self.end, zone)
        if start is None or end is None:
            raise fault("start", "give start and end, or a trading_date", self.start)
        if not 0 <= end - start <= MAX_DAYS * DAY_NS:
            raise fault("end", f"the range is 0 to {MAX_DAYS} days long", self.end)
        return replace(wanted, start_ns=start, end_ns=end)

    def to_causes(self) -> list[str]:
        """The wanted causes, all without any. Raises Problem 400."""
        causes = split(self.causes)
        for cause in causes:
            if cause not in CAUSES:
                raise fault("causes", f"{cause} is none of {', '.join(CAUSES)}", cause)
        return causes or list(CAUSES)


class ConditionParameters(AsOfParameters):
    """The days whose condition is wanted."""

    start_date: date | None = Field(
        default=None,
        description="First trading date; the first with rows without it.",
        examples=["2014-03-10"],
    )
    end_date: date | None = Field(
        default=None,
        description="Last trading date, inclusive; the last with rows without it.",
        examples=["2014-03-14"],
    )

    def check(self) -> None:
        """Raise Problem 400 for days that are no range."""
        if self.start_date is None or self.end_date is None:
            return
        if self.end_date < self.start_date:
            raise fault("end_date", "end_date lies before start_date", self.end_date.isoformat())


def day_ns(day: date) -> int:
    """When the day begins, UTC."""
    return parse_time(day.isoformat())


Diff = Annotated[DiffParameters, Query()]
Gaps = Annotated[GapsParameters, Query()]
Condition = Annotated[ConditionParameters, Query()]
