"""What a range holds before anything is added up: series, their sources, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from http import HTTPStatus
from typing import Any

from k2common.engine.scan import Filter, Parameters, Scan, rows_sql
from k2common.http.problems import Problem
from k2common.query.queries import Queries
from k2common.schemas.datasets import TRADES

from query_service.trades.conditions import Rule

MAX_NAMED = 20


@dataclass(slots=True, kw_only=True)
class SeriesSummary:
    """The rows of a symbol of a venue that count, and their first and last time and trading date."""

    symbol: str
    venue: str
    asset_class: str
    rows: int
    first_ns: int
    last_ns: int
    first_date: date
    last_date: date
    sources: set[str]
    currencies: set[str | None]

    @property
    def currency(self) -> str | None:
        """Their currency, where they have one only."""
        return next(iter(self.currencies)) if len(self.currencies) == 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeSummary:
    """What was found, and how many rows with which conditions the rule leaves out."""

    found: Sequence[SeriesSummary] = ()
    rule: Rule = field(default_factory=Rule)
    left_out: int = 0
    left_out_conditions: Sequence[str] = ()

    @property
    def rows(self) -> int:
        """How many rows count."""
        return sum(one.rows for one in self.found)

    def meta(self) -> Mapping[str, Any]:
        """The entry `left_out` of an answer's `meta`."""
        return {
            "rule": self.rule.name,
            "rows": self.left_out,
            "conditions": list(self.left_out_conditions),
        }

    def one_source_each(self, dataset: str, *, parameter: str = "source") -> None:
        """Raise Problem 422 when a series has rows of several sources, which `parameter` chooses from."""
        mixed = [one for one in self.found if len(one.sources) > 1]
        if mixed:
            named = "; ".join(
                f"{one.symbol} of {one.venue}: {', '.join(sorted(one.sources))}" for one in mixed[:MAX_NAMED]
            )
            raise ambiguous(dataset, named, parameter=parameter)


def ambiguous(dataset: str, named: str, *, parameter: str = "source") -> Problem:
    """Problem 422 for rows of several sources, which `parameter` would choose from."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "AMBIGUOUS_SOURCE",
        f"{dataset} of several sources would be mixed ({named}); say which with {parameter}=",
    )


async def survey(
    queries: Queries, scan: Scan | None, wanted: Filter, rule: Rule, *, timeframes: Sequence[str] = ()
) -> RangeSummary:
    """Look over the wanted rows; of a vendor's bars those of one timeframe, however it is spelled.

    Raises what the queries raise.
    """
    if scan is None:
        return RangeSummary(rule=rule)
    parameters = Parameters()
    groups = await queries.table(_sql(scan, wanted, rule, timeframes, parameters), parameters.values)
    kept: dict[tuple[str, str], SeriesSummary] = {}
    left_out, conditions = 0, set[str]()
    for row in groups.to_pylist():
        if row["counts"]:
            _add(kept, row)
        else:
            left_out += row["rows"]
            conditions.update(row["conditions"] or ())
    return RangeSummary(
        found=[kept[key] for key in sorted(kept)],
        rule=rule,
        left_out=left_out,
        left_out_conditions=sorted(conditions),
    )


def _sql(scan: Scan, wanted: Filter, rule: Rule, timeframes: Sequence[str], parameters: Parameters) -> str:
    rows = rows_sql([scan], wanted, parameters)
    if timeframes:
        rows = (
            f"SELECT * FROM ({rows}) WHERE timeframe IN (SELECT unnest({parameters.bind(list(timeframes))}))"
        )
    conditions = "CASE WHEN NOT counts THEN conditions END" if scan.dataset is TRADES else "NULL::VARCHAR[]"
    judged = f"SELECT *, {rule.sql(parameters)} AS counts FROM ({rows})"
    return f"""
        SELECT symbol, venue, source, asset_class, currency, counts, {conditions} AS conditions,
            count(*) AS rows, min(ts_event_ns) AS first_ns, max(ts_event_ns) AS last_ns,
            min(trading_date) AS first_date, max(trading_date) AS last_date
        FROM ({judged}) GROUP BY ALL"""


def _add(kept: dict[tuple[str, str], SeriesSummary], row: Mapping[str, Any]) -> None:
    one = kept.get((row["symbol"], row["venue"]))
    if one is None:
        kept[row["symbol"], row["venue"]] = SeriesSummary(
            symbol=row["symbol"],
            venue=row["venue"],
            asset_class=row["asset_class"],
            rows=row["rows"],
            first_ns=row["first_ns"],
            last_ns=row["last_ns"],
            first_date=row["first_date"],
            last_date=row["last_date"],
            sources={row["source"]},
            currencies={row["currency"]},
        )
        return
    one.asset_class = min(one.asset_class, row["asset_class"])
    one.rows += row["rows"]
    one.first_ns, one.last_ns = min(one.first_ns, row["first_ns"]), max(one.last_ns, row["last_ns"])
    one.first_date = min(one.first_date, row["first_date"])
    one.last_date = max(one.last_date, row["last_date"])
    one.sources.add(row["source"])
    one.currencies.add(row["currency"])
