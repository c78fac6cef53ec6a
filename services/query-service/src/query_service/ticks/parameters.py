"""The parameters of trades and quotes: conditions on their own columns, in a query or in a JSON body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Query
from k2common.engine.scan import OPERATORS, ColumnBound, Filter
from pydantic import Field

from query_service.answers.parameters import ListParameters, OutputParameters, RowsParameters, fault, split

SIDES = ("buy", "sell", "sell_short", "unknown")
WORDS = {"gt": "above", "gte": "at least", "lt": "below", "lte": "at most"}
Text = str | Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=10_000)]


def _bound(column: str, operator: str) -> Any:
    return Field(
        default=None,
        alias=f"{column}.{operator}",
        max_digits=28,
        decimal_places=12,
        description=f"Rows whose {column} is {WORDS[operator]} this value; null is neither.",
        examples=["36.5"],
    )


class _TradeConditions(RowsParameters):
    price_gt: Decimal | None = _bound("price", "gt")
    price_gte: Decimal | None = _bound("price", "gte")
    price_lt: Decimal | None = _bound("price", "lt")
    price_lte: Decimal | None = _bound("price", "lte")
    size_gt: Decimal | None = _bound("size", "gt")
    size_gte: Decimal | None = _bound("size", "gte")
    size_lt: Decimal | None = _bound("size", "lt")
    size_lte: Decimal | None = _bound("size", "lte")
    side: str | None = Field(
        default=None,
        max_length=100,
        description=f"Trades of these aggressors, by commas: {', '.join(SIDES)}.",
        examples=["buy,sell"],
    )
    any_of: str | None = Field(
        default=None,
        alias="conditions.any_of",
        max_length=1_000,
        description="Rows that have one of these conditions, beside those of include_conditions.",
        examples=["0"],
    )

    def to_filter(self) -> Filter:
        """The conditions. Raises Problem 400."""
        sides = split(self.side)
        for side in sides:
            if side not in SIDES:
                raise fault("side", f"side is among {', '.join(SIDES)}", side)
        wanted = super().to_filter()
        return replace(wanted, bounds=bounds_of(self), sides=sides, any_conditions=split(self.any_of))


class _QuoteConditions(RowsParameters):
    bid_price_gt: Decimal | None = _bound("bid_price", "gt")
    bid_price_gte: Decimal | None = _bound("bid_price", "gte")
    bid_price_lt: Decimal | None = _bound("bid_price", "lt")
    bid_price_lte: Decimal | None = _bound("bid_price", "lte")
    bid_size_gt: Decimal | None = _bound("bid_size", "gt")
    bid_size_gte: Decimal | None = _bound("bid_size", "gte")
    bid_size_lt: Decimal | None = _bound("bid_size", "lt")
    bid_size_lte: Decimal | None = _bound("bid_size", "lte")
    ask_price_gt: Decimal | None = _bound("ask_price", "gt")
    ask_price_gte: Decimal | None = _bound("ask_price", "gte")
    ask_price_lt: Decimal | None = _bound("ask_price", "lt")
    ask_price_lte: Decimal | None = _bound("ask_price", "lte")
    ask_size_gt: Decimal | None = _bound("ask_size", "gt")
    ask_size_gte: Decimal | None = _bound("ask_size", "gte")
    ask_size_lt: Decimal | None = _bound("ask_size", "lt")
    ask_size_lte: Decimal | None = _bound("ask_size", "lte")
    any_of: str | None = Field(
        default=None,
        alias="conditions.any_of",
        max_length=1_000,
        description="Rows that have one of these conditions, beside those of include_conditions.",
        examples=["0"],
    )

    def to_filter(self) -> Filter:
        """The conditions. Raises Problem 400."""
        return replace(super().to_filter(), bounds=bounds_of(self), any_conditions=split(self.any_of))


class TradesParameters(_TradeConditions, ListParameters):
    """Trades of a range."""


class QuotesParameters(_QuoteConditions, ListParameters):
    """Quotes of a range."""


class LatestTradesParameters(_TradeConditions, OutputParameters):
    """The newest trade of each symbol."""


class LatestQuotesParameters(_QuoteConditions, OutputParameters):
    """The newest quote of each symbol."""


class TradesBody(TradesParameters):
    """The parameters of `GET /v1/trades`; what stands there by commas may be a list here."""

    # A list is as good as its text to everything that reads these.
    symbols: Text = Field(  # type: ignore[assignment]
        default="*", min_length=1, max_length=100_000, description="Symbols; `*` is all.", examples=[["BHP"]]
    )


class QuotesBody(QuotesParameters):
    """The parameters of `GET /v1/quotes`; what stands there by commas may be a list here."""

    symbols: Text = Field(  # type: ignore[assignment]
        default="*", min_length=1, max_length=100_000, description="Symbols; `*` is all.", examples=[["BHP"]]
    )


Trades = Annotated[TradesParameters, Query()]
Quotes = Annotated[QuotesParameters, Query()]
LatestTrades = Annotated[LatestTradesParameters, Query()]
LatestQuotes = Annotated[LatestQuotesParameters, Query()]


def bounds_of(parameters: RowsParameters) -> Sequence[ColumnBound]:
    """The comparisons among the parameters, `<column>.<operator>`."""
    found = []
    for name, field in type(parameters).model_fields.items():
        column, _, operator = (field.alias or "").partition(".")
        value = getattr(parameters, name)
        if operator in OPERATORS and value is not None:
            found.append(ColumnBound(column=column, operator=operator, value=value))
    return found
