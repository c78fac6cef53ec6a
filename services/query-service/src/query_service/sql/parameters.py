"""The body of a request for SQL, each field with a sentence, a bound and an example."""

from __future__ import annotations

from typing import Literal

from k2common.engine.scan import Filter
from pydantic import BaseModel, ConfigDict, Field

from query_service.answers.parameters import MAX_PAGE, MAX_SYMBOLS, fault, time_of, zone_of

DEFAULT_ROWS = 1_000
Scalar = str | int | float | bool | None


class SqlRequest(BaseModel):
    """One statement, the version that it is run on, and what the answer looks like."""

    model_config = ConfigDict(extra="forbid")

    sql: str = Field(
        min_length=1,
        max_length=100_000,
        description="One SELECT over trades, quotes, bars, instruments, corporate_actions and gaps.",
        examples=["SELECT symbol, sum(size) AS volume FROM trades GROUP BY symbol ORDER BY symbol"],
    )
    parameters: dict[str, Scalar | list[Scalar]] = Field(
        default_factory=dict,
        max_length=100,
        description="Values for `$name` in the statement.",
        examples=[{"symbol": "BHP"}],
    )
    as_of: str | None = Field(
        default=None,
        max_length=500,
        description="The version of the tables: a token, a tag, a time or a snapshot id; else the newest.",
        examples=["trades@12"],
    )
    symbols: list[str] = Field(
        default_factory=list,
        max_length=MAX_SYMBOLS,
        description="The tables hold rows of these symbols alone; all for none. Faster than a condition.",
        examples=[["BHP"]],
    )
    start: str | None = Field(
        default=None,
        max_length=40,
        description="Tables of events hold rows from this time on: RFC 3339, a date or nanoseconds.",
        examples=["2014-03-11"],
    )
    end: str | None = Field(
        default=None,
        max_length=40,
        description="Tables of events hold rows before this time.",
        examples=["2014-03-12"],
    )
    timezone: str = Field(
        default="UTC",
        max_length=64,
        description="The zone of start and end where they name none.",
        examples=["Australia/Sydney"],
    )
    format: Literal["json", "ndjson", "csv", "arrow", "parquet"] | None = Field(
        default=None, description="The answer's format; else by the header Accept.", examples=["arrow"]
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description=f"Rows of the answer: {DEFAULT_ROWS:,} in JSON without it and at most {MAX_PAGE:,}; "
        "other formats have no bound.",
        examples=[1000],
    )
    sorted: bool = Field(
        default=False,
        description="Order the rows by all columns, so that the same rows always come in the same order.",
        examples=[True],
    )

    def to_filter(self) -> Filter:
        """What the tables are narrowed to. Raises Problem 400."""
        zone = zone_of(self.timezone)
        start, end = time_of("start", self.start, zone), time_of("end", self.end, zone)
        if start is not None and end is not None and start > end:
            raise fault("end", "end lies before start", self.end)
        return Filter(start_ns=start, end_ns=end, symbols=self.symbols)

    def rows(self, form: str) -> int | None:
        """How many rows the answer may have. Raises Problem 400."""
        if form != "json":
            return self.limit
        if self.limit is not None and self.limit > MAX_PAGE:
            raise fault("limit", f"JSON has at most {MAX_PAGE} rows", str(self.limit))
        return self.limit or DEFAULT_ROWS
