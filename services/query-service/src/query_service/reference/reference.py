"""Reference data as statements: symbols of a dataset, instruments by date, symbology, corporate actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa
from k2common.engine.scan import Filter, Parameters, Scan, rows_sql

SYMBOLS = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("symbol", "venue", "source", "asset_class")),
        pa.field("first_date", pa.date32()),
        pa.field("last_date", pa.date32()),
        pa.field("rows", pa.int64()),
    ]
)
SYMBOLS_ORDER = ("symbol", "venue", "source", "asset_class")

INSTRUMENTS_ORDER = ("symbol", "venue", "CAST(valid_from AS VARCHAR)", "upload_id", "line")
ACTIONS_ORDER = ("symbol", "venue", "CAST(ex_date AS VARCHAR)", "kind", "upload_id", "line")

RESOLVED = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("asked", "asked_as", "symbol", "venue", "source")),
        *(pa.field(name, pa.string()) for name in ("instrument_id", "isin", "name")),
        pa.field("valid_from", pa.date32()),
        pa.field("valid_to", pa.date32()),
    ]
)
RESOLVED_ORDER = ("asked_as", "asked", *INSTRUMENTS_ORDER)
NAMES = ("symbol", "instrument_id", "isin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which reference data; what is None or empty is no condition. `on` is a day on which it holds."""

    symbols: Sequence[str] = ()
    venues: Sequence[str] = ()
    source: str | None = None
    on: date | None = None
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def rows(self, scan: Scan, parameters: Parameters) -> str:
        """The wanted rows; `others` has values per column of the dataset."""
        known = Filter(symbols=self.symbols, venues=self.venues, source=self.source)
        conditions = ["true"]
        for column, values in self.others.items():
            if values:
                conditions.append(f"{column} IN (SELECT unnest({parameters.bind(list(values))}))")
        if self.on is not None:
            day = f"{parameters.bind(self.on.isoformat())}::DATE"
            conditions.append(f"valid_from <= {day} AND (valid_to IS NULL OR valid_to >= {day})")
        return f"SELECT * FROM ({rows_sql([scan], known, parameters)}) WHERE {' AND '.join(conditions)}"


def symbols_sql(scan: Scan, wanted: Wanted, parameters: Parameters) -> str:
    """Each symbol by venue, source and class, with its first and last trading date and its rows."""
    return f"""
        SELECT symbol, venue, source, asset_class, min(trading_date) AS first_date,
            max(trading_date) AS last_date, count(*) AS rows
        FROM ({wanted.rows(scan, parameters)}) GROUP BY symbol, venue, source, asset_class"""


def actions_sql(
    scan: Scan, wanted: Wanted, parameters: Parameters, *, first: date | None, end: date | None
) -> str:
    """Corporate actions with an ex-date in [first, end)."""
    conditions = ["true"]
    for operator, day in ((">=", first), ("<", end)):
        if day is not None:
            conditions.append(f"ex_date {operator} {parameters.bind(day.isoformat())}::DATE")
    return f"SELECT * FROM ({wanted.rows(scan, parameters)}) WHERE {' AND '.join(conditions)}"


def resolved_sql(
    scan: Scan, wanted: Wanted, parameters: Parameters, asked: Mapping[str, Sequence[str]]
) -> str:
    """Per name that was asked for the instruments that bear it; `asked` has names by column of NAMES."""
    kinds = [kind for kind in NAMES for _ in asked.get(kind, ())]
    names = [name for kind in NAMES for name in asked.get(kind, ())]
    inputs = f"""
        SELECT unnest({parameters.bind(names)}::VARCHAR[]) AS asked,
            unnest({parameters.bind(kinds)}::VARCHAR[]) AS asked_as"""
    matches = " OR ".join(f"(asked_as = '{kind}' AND {kind} = asked)" for kind in NAMES)
    return f"""
        SELECT asked, asked_as, found.* FROM ({inputs})
        JOIN ({wanted.rows(scan, parameters)}) AS found ON {matches}"""
