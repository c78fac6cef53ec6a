"""The query parameters, each with a sentence, a bound and an example for the OpenAPI document."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from fastapi import Query
from k2common.domain.time import parse_time
from k2common.engine.scan import Filter
from k2common.errors import RecordError
from k2common.http.parameters import invalid
from k2common.http.problems import FieldError, Problem
from k2common.layouts.model import known_zone
from pydantic import BaseModel, ConfigDict, Field

MAX_SYMBOLS = 2_000
MAX_PAGE = 10_000
TABLES = Literal[
    "market.trades",
    "market.quotes",
    "market.instruments",
    "ingest.rejects",
    "ingest.uploads",
]


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")


class VersionParameters(_Parameters):
    """What every read takes."""

    as_of: str | None = Field(
        default=None,
        max_length=500,
        description="Read as of this version token, or as of this time; the newest version without it.",
        examples=["trades@12"],
    )


class RowsParameters(VersionParameters):
    """A range of rows."""

    symbols: str = Field(
        default="*",
        min_length=1,
        max_length=100_000,
        description=f"Up to {MAX_SYMBOLS} symbols by commas; `*` is all.",
        examples=["BHP,RIO"],
    )
    venues: str | None = Field(
        default=None, max_length=10_000, description="Venues by commas; all without it.", examples=["XASX"]
    )
    source: str | None = Field(
        default=None, max_length=256, description="Rows of this feed alone.", examples=["asx"]
    )
    start: str | None = Field(
        default=None,
        max_length=40,
        description="First time, inclusive: RFC 3339, a date or nanoseconds; UTC where no zone is named.",
        examples=["2014-03-11T00:00:00Z"],
    )
    end: str | None = Field(
        default=None, max_length=40, description="Last time, exclusive.", examples=["2014-03-12"]
    )
    trading_date: date | None = Field(
        default=None, description="Rows of this date of the venue's calendar.", examples=["2014-03-11"]
    )
    timezone: str = Field(
        default="UTC",
        max_length=64,
        description="The zone of start and end where they name none.",
        examples=["Australia/Sydney"],
    )
    include_conditions: str | None = Field(
        default=None,
        max_length=1_000,
        description="Rows that have one of these conditions, by commas.",
        examples=["0"],
    )
    exclude_conditions: str | None = Field(
        default=None,
        max_length=1_000,
        description="Rows that have none of these conditions, by commas.",
        examples=["1,3,9"],
    )

    def to_filter(self) -> Filter:
        """The conditions.

        Raises Problem 400 that names the parameter at fault.
        """
        symbols = [] if self.symbols == "*" else split(self.symbols)
        if len(symbols) > MAX_SYMBOLS:
            raise fault("symbols", f"symbols are at most {MAX_SYMBOLS}", self.symbols[:100])
        zone = zone_of(self.timezone)
        start, end = time_of("start", self.start, zone), time_of("end", self.end, zone)
        if start is not None and end is not None and start > end:
            raise fault("end", "end lies before start", self.end)
        return Filter(
            start_ns=start,
            end_ns=end,
            symbols=symbols,
            venues=split(self.venues),
            source=self.source,
            trading_date=None if self.trading_date is None else self.trading_date.isoformat(),
            include_conditions=split(self.include_conditions),
            exclude_conditions=split(self.exclude_conditions),
        )


class ListParameters(RowsParameters):
    """A range of rows, page by page or as a stream."""

    limit: int | None = Field(
        default=None,
        ge=1,
        description=f"Rows of a page, 1,000 without it and at most {MAX_PAGE}; a stream has no bound.",
        examples=[1000],
    )
    page_token: str | None = Field(
        default=None, max_length=4_000, description="The `next_page_token` of the page before."
    )
    format: str | None = Field(
        default=None, description="json, ndjson, csv or arrow; else by the header Accept.", examples=["csv"]
    )


class SummaryParameters(VersionParameters):
    """Which rows of the date count."""

    source: str | None = Field(
        default=None, max_length=256, description="Rows of this feed alone.", examples=["asx"]
    )
    venue: str | None = Field(
        default=None, max_length=256, description="This venue alone.", examples=["XASX"]
    )
    start: str | None = Field(default=None, max_length=40, description="First time, inclusive.")
    end: str | None = Field(default=None, max_length=40, description="Last time, exclusive.")
    timezone: str = Field(
        default="UTC", max_length=64, description="The zone of start and end where they name none."
    )
    include_conditions: str | None = Field(
        default=None, max_length=1_000, description="Trades with one of these conditions.", examples=["0"]
    )
    exclude_conditions: str | None = Field(
        default=None, max_length=1_000, description="Trades with none of these.", examples=["1,3,9"]
    )

    def to_filter(self, symbol: str, day: date) -> Filter:
        """The conditions. Raises Problem 400."""
        zone = zone_of(self.timezone)
        return Filter(
            start_ns=time_of("start", self.start, zone),
            end_ns=time_of("end", self.end, zone),
            symbols=[symbol],
            venues=split(self.venue),
            source=self.source,
            trading_date=day.isoformat(),
            include_conditions=split(self.include_conditions),
            exclude_conditions=split(self.exclude_conditions),
        )


class SymbolsParameters(VersionParameters):
    """Symbols of one dataset."""

    dataset: Literal["trades", "quotes"] = Field(default="trades", description="Where to look for symbols.")


class InstrumentsParameters(VersionParameters):
    """Instruments by symbol."""

    symbols: str = Field(
        default="*", min_length=1, max_length=100_000, description="Symbols by commas; `*` is all."
    )


class VersionsParameters(_Parameters):
    """Versions of one table."""

    table: TABLES = Field(description="The table.", examples=["market.trades"])
    limit: int = Field(default=100, ge=1, le=1_000, description="Versions of a page.")
    before: int | None = Field(default=None, ge=1, description="Versions below this number.")


class SnapshotsParameters(_Parameters):
    """Live snapshots of one table."""

    table: TABLES = Field(description="The table.", examples=["market.trades"])


Listing = Annotated[ListParameters, Query()]
Summary = Annotated[SummaryParameters, Query()]
Symbols = Annotated[SymbolsParameters, Query()]
Instruments = Annotated[InstrumentsParameters, Query()]
Versions = Annotated[VersionsParameters, Query()]
Snapshots = Annotated[SnapshotsParameters, Query()]


def split(text: str | None) -> list[str]:
    """The parts between commas, each once, in their order."""
    return [] if text is None else list(dict.fromkeys(part for part in text.split(",") if part))


def fault(parameter: str, message: str, value: str | None) -> Problem:
    """Problem 400 for one parameter."""
    return invalid([FieldError(parameter=parameter, code="INVALID", message=message, value=value)])


def zone_of(text: str) -> str:
    """A zone's name. Raises Problem 400."""
    try:
        return str(ZoneInfo(known_zone(text)))
    except ValueError as error:
        raise fault("timezone", str(error), text) from error


def time_of(parameter: str, text: str | None, zone: str) -> int | None:
    """Nanoseconds. Raises Problem 400."""
    try:
        return None if text is None else parse_time(text, zone=zone)
    except RecordError as error:
        raise fault(parameter, str(error), text) from error
