"""The parameters of bars, as of a query string and as of a JSON body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import Query
from k2common.errors import RecordError
from pydantic import Field

from query_service.answers.parameters import RangeParameters, WrittenParameters, fault, split, zone_of
from query_service.bars.bars import SCHEMA, Question
from query_service.bars.timeframes import PATTERN, Span, Timeframe, parse_timeframe
from query_service.ticks.parameters import Text
from query_service.trades.conditions import Rule, rule_of

OffMarket = Literal["include", "exclude"]
OFF_MARKET = Field(
    default=None,
    description="Whether prints that the layout marks as off the market count; `exclude` without it, and "
    "`include` where conditions are named.",
    examples=["include"],
)
NOT_OF_VENDORS: Mapping[str, Any] = {"fill": "none", "align": None, "session": "all", "off_market": None}


class BarsParameters(WrittenParameters, RangeParameters):
    """Bars of a range."""

    timeframe: str = Field(
        pattern=PATTERN,
        max_length=40,
        description="`<n>Sec`, `Min`, `Hour` (up to a day), `Day` (366), `Week` (52), `Month` (120), or "
        "`tick:`, `volume:`, `dollar:` with the trades, units or money of a bar.",
        examples=["5Min"],
    )
    origin: Literal["trades", "vendor"] = Field(
        default="trades",
        description="Made from trades, or as a vendor made and sent them.",
        examples=["vendor"],
    )
    fill: Literal["none", "null", "prev", "zero"] = Field(
        default="none",
        description="Bars without trades: none, with null, with the close before, or with 0 in each figure.",
        examples=["prev"],
    )
    align: Literal["utc", "venue"] | None = Field(
        default=None,
        description="The clock by which bars begin: UTC, or the venue's; that of `timezone` without it.",
        examples=["venue"],
    )
    session: Literal["all", "regular"] = Field(
        default="all",
        description="All trades, or those of the venue's regular sessions by its calendar.",
        examples=["regular"],
    )
    adjustment: Literal["raw", "split", "dividend", "all"] = Field(
        default="raw",
        description="Back-adjustment of prices and volumes for splits, dividends or both.",
        examples=["all"],
    )
    adjusted_to: date | None = Field(
        default=None,
        description="Actions with an ex-date up to this day count; the day of the version without it.",
        examples=["2014-03-31"],
    )
    adjustment_source: str | None = Field(
        default=None, max_length=256, description="Actions of this feed alone.", examples=["asx"]
    )
    off_market: OffMarket | None = OFF_MARKET

    def to_question(self) -> Question:
        """What is asked for.

        Raises Problem 400 that names the parameter at fault.
        """
        timeframe = self._timeframe()
        vendor = self.origin == "vendor"
        if vendor:
            self._refuse_of_vendors(timeframe)
        if self.fill != "none" and not isinstance(timeframe, Span):
            raise fault("fill", "only bars of time can be filled", self.fill)
        return Question(
            timeframe=timeframe,
            wanted=replace(self.to_filter(), include_conditions=(), exclude_conditions=()),
            rule=Rule() if vendor else self.to_rule(),
            vendor=vendor,
            fill=self.fill,
            align=self.align,
            zone=zone_of(self.timezone),
            regular=self.session == "regular",
            adjustment=self.adjustment,
            adjusted_to=self.adjusted_to,
            adjustment_source=self.adjustment_source,
            twap="twap" in (split(self.fields) or SCHEMA.names),
        )

    def to_rule(self) -> Rule:
        """Which trades count."""
        return rule_of(self.off_market, split(self.include_conditions), split(self.exclude_conditions))

    def _timeframe(self) -> Timeframe:
        try:
            return parse_timeframe(self.timeframe)
        except RecordError as error:
            raise fault("timeframe", str(error), self.timeframe) from error

    def _refuse_of_vendors(self, timeframe: Timeframe) -> None:
        if not isinstance(timeframe, Span):
            raise fault("timeframe", "vendors' bars are of time", self.timeframe)
        given = {**NOT_OF_VENDORS, "include_conditions": None, "exclude_conditions": None}
        for name, default in given.items():
            if getattr(self, name) != default:
                raise fault(name, f"{name} is for bars from trades", str(getattr(self, name))[:100])


class BarsBody(BarsParameters):
    """The parameters of `GET /v1/bars`; what stands there by commas may be a list here."""

    symbols: Text = Field(  # type: ignore[assignment]
        default="*", min_length=1, max_length=100_000, description="Symbols; `*` is all.", examples=[["BHP"]]
    )


BarsQuery = Annotated[BarsParameters, Query()]
