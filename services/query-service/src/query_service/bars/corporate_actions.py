"""Splits and dividends of a range from the corporate actions, each dividend with the price before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from k2common.domain.time import EPOCH
from k2common.engine.scan import Filter, Parameters, Scan, rows_sql
from k2common.iceberg.reading.as_of import AsOf
from k2common.schemas.datasets import CORPORATE_ACTIONS, Dataset

from query_service.answers.answer_context import AnswerDependencies, scan_of
from query_service.bars.adjustments import KINDS, Action, Adjusting, Adjustment, adjusting
from query_service.bars.statement import ORDER
from query_service.trades.conditions import Rule
from query_service.trades.range_summary import SeriesSummary, ambiguous

LOOKBACK = timedelta(days=30)
"""A dividend's price is looked for so many days before its ex-date."""

MAX_ACTIONS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Where the price before a dividend comes from: the column `price` of rows of `dataset`."""

    dataset: Dataset
    price: str
    rule: Rule
    source: str | None
    timeframes: Sequence[str] = ()


async def load_adjusting(
    parts: AnswerDependencies,
    as_of: AsOf,
    found: Sequence[SeriesSummary],
    *,
    adjustment: Adjustment,
    until: date,
    source: str | None,
    basis: Basis,
) -> Adjusting:
    """What adjusts the rows that were found: actions with an ex-date after their first day, up to `until`.

    Raises Problem 422 when a series has actions of several sources, and what the queries raise.
    """
    if not KINDS[adjustment] or not found:
        return Adjusting()
    wanted = Filter(symbols=sorted({one.symbol for one in found}), source=source)
    scan = await scan_of(parts, as_of, CORPORATE_ACTIONS, wanted)
    if scan is None:
        return Adjusting()
    parameters = Parameters()
    sql = _actions_sql(scan, wanted, parameters, kinds=KINDS[adjustment], until=until, found=found)
    rows = (await parts.queries.table(sql, parameters.values)).to_pylist()
    _one_source_each(rows)
    known = {(one.symbol, one.venue): one for one in found}
    actions = [
        Action(
            symbol=row["symbol"],
            venue=row["venue"],
            kind=row["kind"],
            ex_date=row["ex_date"],
            ratio=row["ratio"],
            amount=row["amount"],
            currency=row["currency"],
            close_currency=known[row["symbol"], row["venue"]].currency,
        )
        for row in rows
        if (one := known.get((row["symbol"], row["venue"]))) and row["ex_date"] > one.first_date
    ]
    closes = await _closes(parts, as_of, [a for a in actions if a.kind == "dividend"], basis)
    return adjusting(
        [
            replace(action, close=closes.get((action.symbol, action.venue, action.ex_date)))
            for action in actions
        ]
    )


def _actions_sql(
    scan: Scan,
    wanted: Filter,
    parameters: Parameters,
    *,
    kinds: Sequence[str],
    until: date,
    found: Sequence[SeriesSummary],
) -> str:
    rows = rows_sql([scan], wanted, parameters)
    first = parameters.bind(min(one.first_date for one in found).isoformat())
    return f"""
        SELECT symbol, venue, source, kind, ex_date, ratio, amount, currency FROM ({rows})
        WHERE kind IN (SELECT unnest({parameters.bind(list(kinds))}))
            AND ex_date > {first}::DATE AND ex_date <= {parameters.bind(until.isoformat())}::DATE
        ORDER BY symbol, venue, ex_date, kind, upload_id, line LIMIT {parameters.bind(MAX_ACTIONS)}"""


def _one_source_each(rows: Sequence[Mapping[str, Any]]) -> None:
    sources: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        sources.setdefault((row["symbol"], row["venue"]), set()).add(row["source"])
    for (symbol, venue), several in sources.items():
        if len(several) > 1:
            named = f"{symbol} of {venue}: {', '.join(sorted(several))}"
            raise ambiguous(CORPORATE_ACTIONS.name, named, parameter="adjustment_source")


async def _closes(
    parts: AnswerDependencies, as_of: AsOf, dividends: Sequence[Action], basis: Basis
) -> Mapping[tuple[str, str, date], Decimal]:
    """The last price before each ex-date, as traded; only the days before an ex-date are read."""
    if not dividends:
        return {}
    days = {dividend.ex_date for dividend in dividends}
    wanted = Filter(
        start_ns=_midnight(min(days) - LOOKBACK - timedelta(days=1)),
        end_ns=_midnight(max(days) + timedelta(days=1)),
        symbols=sorted({dividend.symbol for dividend in dividends}),
        source=basis.source,
    )
    scan = await scan_of(parts, as_of, basis.dataset, wanted)
    if scan is None:
        return {}
    parameters = Parameters()
    rows = await parts.queries.table(
        _closes_sql(scan, wanted, dividends, basis, parameters), parameters.values
    )
    return {(row["symbol"], row["venue"], row["ex_date"]): row["close"] for row in rows.to_pylist()}


def _closes_sql(
    scan: Scan, wanted: Filter, dividends: Sequence[Action], basis: Basis, parameters: Parameters
) -> str:
    def column(name: str) -> str:
        return parameters.bind([str(getattr(dividend, name)) for dividend in dividends])

    rows = f"SELECT * FROM ({rows_sql([scan], wanted, parameters)}) WHERE {basis.rule.sql(parameters)}"
    if basis.timeframes:
        rows += f" AND timeframe IN (SELECT unnest({parameters.bind(list(basis.timeframes))}))"
    order = ORDER if basis.price == "price" else "ts_event_ns, upload_id, line"
    events = f"""SELECT DISTINCT unnest({column("symbol")}::VARCHAR[]) AS symbol,
        unnest({column("venue")}::VARCHAR[]) AS venue,
        unnest({column("ex_date")}::VARCHAR[])::DATE AS ex_date"""
    return f"""
        SELECT symbol, venue, ex_date, last({basis.price} ORDER BY {order}) AS close
        FROM ({rows}) JOIN ({events}) USING (symbol, venue)
        WHERE trading_date < ex_date AND trading_date >= ex_date - {LOOKBACK.days}
        GROUP BY symbol, venue, ex_date"""


def _midnight(day: date) -> int:
    return (datetime.combine(day, time(), UTC) - EPOCH) // timedelta(microseconds=1) * 1000
