"""The query parameters, each with a sentence, a bound and an example for the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from difflib import get_close_matches
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import pyarrow as pa
from fastapi import Query
from k2common.domain.time import parse_time
from k2common.engine.scan import Filter, Order
from k2common.engine.shape import Shape
from k2common.engine.text import columns_of
from k2common.errors import RecordError
from k2common.http.parameters import invalid
from k2common.http.problems import FieldError, Problem
from k2common.layouts.zones import known_zone
from k2common.schemas import datasets
from k2common.schemas.datasets import Dataset
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_SYMBOLS = 2_000
MAX_PAGE = 10_000
DEFAULT_PAGE = 1_000
CLOCKS = {"ts_event": "ts_event_ns", "ts_recv": "ts_recv_ns", "ts_ingest": "ts_ingest"}
ATTRIBUTE = re.compile(r"attributes\.[^,]{1,256}")
TABLES = tuple(name for name, table in datasets.TABLES.items() if table.versioned)


def _known_table(name: str) -> str:
    if name not in TABLES:
        raise ValueError(f"there are {', '.join(TABLES)}")
    return name


Table = Annotated[str, AfterValidator(_known_table), Field(json_schema_extra={"enum": list(TABLES)})]


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")


class VersionParameters(_Parameters):
    """What every read takes."""

    as_of: str | None = Field(
        default=None,
        max_length=500,
        description="Read as of this token, tag, time or snapshot id; the newest version without it.",
        examples=["trades@12"],
    )


class RangeParameters(VersionParameters):
    """A range of event times."""

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
        symbols = symbols_of(self.symbols)
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


class WrittenParameters(_Parameters):
    """How rows are written, and how many of them."""

    fields: str | None = Field(
        default=None,
        max_length=4_000,
        description="Columns by commas, in this order; `attributes.<name>` is one of the vendor's own.",
        examples=["symbol,ts_event,price"],
    )
    timestamp_format: Literal["iso", "ns"] = Field(
        default="iso",
        description="Times as RFC 3339 with nine digits, or as nanoseconds since 1970.",
        examples=["iso"],
    )
    price_format: Literal["string", "number"] = Field(
        default="string",
        description="Decimals exact, as text or in a decimal type; or as 64-bit floats in every format.",
        examples=["string"],
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        description=f"Rows of a page, 1,000 without it and at most {MAX_PAGE}; a stream has no bound.",
        examples=[1000],
    )
    page_token: str | None = Field(
        default=None,
        max_length=4_000,
        description="The `next_page_token` of the page before; the other parameters stay the same.",
        json_schema_extra={"format": "k2-page-token"},
    )
    format: str | None = Field(
        default=None,
        max_length=20,
        description="json, ndjson, csv, arrow or parquet; else by the header Accept.",
        examples=["csv"],
    )

    def to_shape(self, dataset: Dataset, schema: pa.Schema | None = None) -> Shape:
        """What is given of each row, of the dataset's columns or of those of `schema`.

        Raises Problem 400 for a field that there is not.
        """
        known = columns_of(dataset) if schema is None else list(schema.names)
        fields = split(self.fields) or known
        for name in fields:
            if name not in known and not (schema is None and ATTRIBUTE.fullmatch(name)):
                (nearest,) = get_close_matches(name, known, n=1, cutoff=0.0)
                whose = f"{dataset.name} has" if schema is None else "there is"
                raise fault("fields", f"{whose} no field {name}; did you mean {nearest}?", name)
        return Shape(
            dataset=dataset,
            fields=tuple(fields),
            numbers=self.price_format == "number",
            nanoseconds=self.timestamp_format == "ns",
            schema=schema,
        )

    def page_size(self) -> int:
        """Rows of a page. Raises Problem 400."""
        limit = self.limit or DEFAULT_PAGE
        if limit > MAX_PAGE:
            raise fault("limit", f"a page has at most {MAX_PAGE} rows", str(limit))
        return limit


class RowsParameters(RangeParameters):
    """A range of rows by any of their clocks."""

    time_field: Literal["ts_event", "ts_recv", "ts_ingest"] = Field(
        default="ts_event",
        description="The clock of start, end and the order: the venue's, the receiver's, or this platform's.",
        examples=["ts_event"],
    )

    def to_filter(self) -> Filter:
        """The conditions. Raises Problem 400."""
        return replace(super().to_filter(), clock=CLOCKS[self.time_field])


class OutputParameters(WrittenParameters, RowsParameters):
    """Rows, and how they are written."""


class ListParameters(OutputParameters):
    """A range of rows, page by page or as a stream."""

    sort: Literal["asc", "desc"] = Field(
        default="asc", description="The total order, or the same backwards.", examples=["desc"]
    )

    def to_order(self) -> Order:
        """The order of the rows."""
        return Order(clock=CLOCKS[self.time_field], descending=self.sort == "desc")


class SummaryParameters(VersionParameters):
    """Which rows of the date count."""

    source: str | None = Field(
        default=None, max_length=256, description="Rows of this feed alone.", examples=["asx"]
    )
    venue: str | None = Field(
        default=None, max_length=256, description="This venue alone.", examples=["XASX"]
    )
    start: str | None = Field(
        default=None, max_length=40, description="First time, inclusive.", examples=["2014-03-11T10:00"]
    )
    end: str | None = Field(
        default=None, max_length=40, description="Last time, exclusive.", examples=["2014-03-11T17:00"]
    )
    timezone: str = Field(
        default="UTC",
        max_length=64,
        description="The zone of start and end where they name none.",
        examples=["Australia/Sydney"],
    )
    include_conditions: str | None = Field(
        default=None, max_length=1_000, description="Trades with one of these conditions.", examples=["0"]
    )
    exclude_conditions: str | None = Field(
        default=None, max_length=1_000, description="Trades with none of these.", examples=["1,3,9"]
    )
    off_market: Literal["include", "exclude"] | None = Field(
        default=None,
        description="Whether prints that the layout marks as off the market count; `exclude` without it, and "
        "`include` where conditions are named.",
        examples=["include"],
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


class VersionsParameters(_Parameters):
    """Versions of one table."""

    table: Table = Field(description="The table.", examples=["market.trades"])
    limit: int = Field(default=100, ge=1, le=1_000, description="Versions of a page.", examples=[100])
    before: int | None = Field(default=None, ge=1, description="Versions below this number.", examples=[12])


class SnapshotsParameters(_Parameters):
    """Live snapshots of one table."""

    table: Table = Field(description="The table.", examples=["market.trades"])


Summary = Annotated[SummaryParameters, Query()]
Versions = Annotated[VersionsParameters, Query()]
Snapshots = Annotated[SnapshotsParameters, Query()]


def split(text: str | Sequence[str] | None) -> list[str]:
    """The parts between commas, each once, in their order; a list, as JSON has it, is its own parts."""
    if text is None:
        return []
    parts = text.split(",") if isinstance(text, str) else text
    return list(dict.fromkeys(part for part in parts if part))


def symbols_of(text: str | Sequence[str]) -> list[str]:
    """The wanted symbols, none for all. Raises Problem 400 for too many."""
    symbols = split(text)
    if symbols == ["*"]:
        return []
    if len(symbols) > MAX_SYMBOLS:
        raise fault("symbols", f"symbols are at most {MAX_SYMBOLS}", ",".join(symbols)[:100])
    return symbols


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
