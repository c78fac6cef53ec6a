"""The market summary of a trading date, exact: sums are decimals, and the one division says how it rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from http import HTTPStatus
from typing import Any

from k2common.engine.scan import Filter, Parameters, Scan, rows_sql
from k2common.http.problems import Problem
from k2common.query.queries import Queries
from k2common.schemas.datasets import QUOTES, TRADES

from query_service.answers.decimals import notional_sums
from query_service.trades.conditions import Rule

VWAP_DIGITS = Decimal("1e-12")
ORDER = "ts_event_ns, sequence NULLS LAST, venue, upload_id, line"


def trades_sql(scan: Scan, wanted: Filter, rule: Rule, parameters: Parameters) -> str:
    """One row: prices, volume and notional of the trades that count, and how many are left out.

    The notional comes in three sums, none of which loses a digit or ends where days end.
    """
    columns = "source, venue, currency, conditions, price, size, ts_event_ns, sequence, upload_id, line"
    judged = f"""
        SELECT {columns}, {rule.sql(parameters)} AS counts FROM ({rows_sql([scan], wanted, parameters)})"""
    return f"""
        WITH judged AS MATERIALIZED ({judged}), left_out AS (
            SELECT count(*) AS left_out, list_sort(list_distinct(flatten(list(conditions)))) AS conditions
            FROM judged WHERE NOT counts
        )
        SELECT left_out, left_out.conditions AS left_out_conditions, kept.* FROM left_out, (
            SELECT count(*) AS trades,
                first(price ORDER BY {ORDER}) AS open,
                max(price) AS high,
                min(price) AS low,
                last(price ORDER BY {ORDER}) AS close,
                sum(size) AS volume,
                {notional_sums("price", "size", wide=True)},
                list(DISTINCT source) AS sources,
                list(DISTINCT venue) AS venues,
                list(DISTINCT currency) AS currencies
            FROM judged WHERE counts
        ) AS kept"""


def quotes_sql(scan: Scan, wanted: Filter, parameters: Parameters) -> str:
    """One row: how many quotes there are, and the spread of those that have two sides and are not crossed."""
    return f"""
        SELECT count(*) AS quotes,
            count(*) FILTER (bid_price IS NOT NULL AND ask_price IS NOT NULL) AS two_sided,
            count(*) FILTER (bid_price > ask_price) AS crossed,
            count(*) FILTER (bid_price <= ask_price) AS spreads,
            min(ask_price - bid_price) FILTER (bid_price <= ask_price) AS min_spread,
            max(ask_price - bid_price) FILTER (bid_price <= ask_price) AS max_spread,
            sum(ask_price - bid_price) FILTER (bid_price <= ask_price) AS sum_spread,
            sum(bid_size) AS bid_volume,
            sum(ask_size) AS ask_volume,
            list(DISTINCT source) AS sources
        FROM ({rows_sql([scan], wanted, parameters)})"""


async def summarize(
    queries: Queries, *, trades: Scan | None, quotes: Scan | None, wanted: Filter, rule: Rule
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The figures of the date, null where there is nothing to make them of; and what the rule left out.

    Conditions say which trades count; quotes are taken whole. Raises Problem 422 when rows of several sources
    would be added up, and what the queries raise.
    """
    day, book = await _trades(queries, trades, wanted, rule), await _quotes(queries, quotes, wanted)
    for dataset, row in ((TRADES, day), (QUOTES, book)):
        _one_source(dataset.name, row.get("sources") or [])
    notional = _notional(day)
    figures = {
        "open": text(day.get("open")),
        "high": text(day.get("high")),
        "low": text(day.get("low")),
        "close": text(day.get("close")),
        "volume": text(day.get("volume") or Decimal(0)),
        "notional": text(notional),
        "vwap": text(divided(notional, day.get("volume"))),
        "trades": day.get("trades", 0),
        "currency": _only(day.get("currencies") or []),
        "source": _only(day.get("sources") or []),
        "venues": sorted(day.get("venues") or []),
        "quotes": _book(book),
    }
    left_out = {
        "rule": rule.name,
        "rows": day.get("left_out", 0),
        "conditions": day.get("left_out_conditions") or [],
    }
    return figures, left_out


def _book(book: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "count": book.get("quotes", 0),
        "two_sided": book.get("two_sided", 0),
        "crossed": book.get("crossed", 0),
        "bid_volume": text(book.get("bid_volume") or Decimal(0)),
        "ask_volume": text(book.get("ask_volume") or Decimal(0)),
        "min_spread": text(book.get("min_spread")),
        "max_spread": text(book.get("max_spread")),
        "mean_spread": text(divided(book.get("sum_spread"), Decimal(book.get("spreads") or 0))),
    }


def _notional(day: Mapping[str, Any]) -> Decimal:
    with localcontext() as context:
        context.prec = 76
        parts = (day.get(f"notional_{name}") or Decimal(0) for name in ("fine", "middle", "whole"))
        return sum(parts, Decimal(0))


def divided(total: Decimal | None, by: Decimal | None) -> Decimal | None:
    """The quotient with 12 digits after the point, half to even; None where there is nothing to divide by."""
    if total is None or not by:
        return None
    with localcontext() as context:
        context.prec = 76
        return (total / by).quantize(VWAP_DIGITS, ROUND_HALF_EVEN)


def text(value: Decimal | None) -> str | None:
    """A decimal as text without needless zeros."""
    if value is None:
        return None
    plain = f"{value:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


async def _trades(queries: Queries, scan: Scan | None, wanted: Filter, rule: Rule) -> Mapping[str, Any]:
    if scan is None:
        return {}
    parameters = Parameters()
    statement = trades_sql(scan, wanted, rule, parameters)
    return await _row(queries, statement, parameters)


async def _quotes(queries: Queries, scan: Scan | None, wanted: Filter) -> Mapping[str, Any]:
    if scan is None:
        return {}
    parameters = Parameters()
    statement = quotes_sql(scan, wanted, parameters)
    return await _row(queries, statement, parameters)


async def _row(queries: Queries, statement: str, parameters: Parameters) -> Mapping[str, Any]:
    (row,) = (await queries.table(statement, parameters.values)).to_pylist()
    return dict(row)


def _one_source(dataset: str, sources: Sequence[str]) -> None:
    if len(sources) > 1:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "AMBIGUOUS_SOURCE",
            f"{dataset} of {', '.join(sorted(sources))} would be added up; say which with source=",
        )


def _only(values: Sequence[str | None]) -> str | None:
    known = {value for value in values if value is not None}
    return known.pop() if len(known) == 1 else None
