"""Rows of a difference between two versions in the order of their places, or the days that it touches."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TypeAlias

from k2common.engine.scan import Filter, Parameters, Scan, rows_sql, shown
from k2common.iceberg.reading.plan import Plan

KeyDay: TypeAlias = tuple[str, str, str, date]
"""Venue, symbol, source and trading date."""
KEY_DAY = "venue, symbol, source, trading_date"
KAFKA_ORDER = "kafka_epoch, kafka_partition, kafka_offset"


def days_sql(scan: Scan, parameters: Parameters) -> str:
    """The days of keys that have rows in the scan."""
    return f"SELECT DISTINCT {KEY_DAY} FROM ({rows_sql([scan], Filter(), parameters)}) ORDER BY ALL"


def placed_rows_sql(
    scan: Scan,
    columns: Sequence[str],
    parameters: Parameters,
    *,
    only: Sequence[KeyDay] = (),
    without: Sequence[KeyDay] = (),
) -> str:
    """The scan's rows in the order of their places, of all days or `only` of some, or `without` some."""
    conditions = ["true"]
    if only:
        conditions.append(f"({KEY_DAY}) IN ({_listed(only, parameters)})")
    if without:
        conditions.append(f"({KEY_DAY}) NOT IN ({_listed(without, parameters)})")
    wanted = Filter(symbols=sorted({symbol for _, symbol, _, _ in only}))
    rows = rows_sql([scan], wanted, parameters)
    return f"""
        SELECT {", ".join(columns)} FROM ({rows})
        WHERE {" AND ".join(conditions)} ORDER BY {KAFKA_ORDER}"""


def plain_rows_sql(plan: Plan, parameters: Parameters) -> str:
    """All rows of a plan that has files, with their own columns and no other."""
    parts: list[str] = []
    for paths, rule in ((plan.all_visible, "true"), (plan.straddling, None)):
        if paths:
            files = f"read_parquet({parameters.bind(plan.opened(paths))}, union_by_name=true)"
            parts.append(f"SELECT * FROM {files} WHERE {rule or shown(plan, parameters)}")
    return " UNION ALL BY NAME ".join(parts)


def _listed(days: Sequence[KeyDay], parameters: Parameters) -> str:
    venues, symbols, sources, dates = (list(values) for values in zip(*days, strict=True))
    texts = [parameters.bind(values) for values in (venues, symbols, sources)]
    dated = f"unnest({parameters.bind([day.isoformat() for day in dates])})::DATE"
    return f"SELECT {', '.join(f'unnest({text})' for text in texts)}, {dated}"
