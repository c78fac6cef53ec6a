"""The rows of planned versions as SQL: the version's rule, the caller's filter, the one total order.

Names come from the datasets alone, values are parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from k2common.domain.ordering import TOTAL_ORDER
from k2common.engine.connection import empty_table
from k2common.iceberg.plan import Plan, unhidden_in
from k2common.schemas.datasets import Dataset
from k2common.versions import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which rows are wanted; what is None or empty is no condition. Times are nanoseconds, [start, end)."""

    start_ns: int | None = None
    end_ns: int | None = None
    symbols: Sequence[str] = ()
    venues: Sequence[str] = ()
    source: str | None = None
    trading_date: str | None = None
    include_conditions: Sequence[str] = ()
    exclude_conditions: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The wanted rows of one dataset in one version."""

    dataset: Dataset
    plan: Plan


@dataclass(slots=True)
class Parameters:
    """Values of a statement under the names that stand for them in its text."""

    values: dict[str, Any] = field(default_factory=dict)

    def bind(self, value: Any) -> str:
        """What stands for the value."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"${name}"


def rows_sql(scans: Sequence[Scan], wanted: Filter, parameters: Parameters) -> str:
    """A statement for the wanted rows of all scans, with the column `dataset`; columns join by name."""
    parts: list[str] = []
    for scan in scans:
        parts.append(f"SELECT '{scan.dataset.name}' AS dataset, * FROM {empty_table(scan.dataset.name)}")
        if scan.plan.all_visible:
            parts.append(_from(scan, scan.plan.all_visible, wanted, parameters))
        if scan.plan.straddling:
            rule = _shown(scan.plan, parameters)
            parts.append(f"{_from(scan, scan.plan.straddling, wanted, parameters)} AND {rule}")
    return " UNION ALL BY NAME ".join(parts)


ORDER_KEY = (
    "ts_event_ns",
    "sequence IS NULL",
    "coalesce(sequence, 0)",
    "dataset",
    "venue",
    "symbol",
    "upload_id",
    "line",
)
"""The total order as expressions none of which is null."""

ORDER_BY = ", ".join(f"{name} NULLS LAST" for name in TOTAL_ORDER)


def order_key(row: Mapping[str, Any]) -> Sequence[Any]:
    """Where the row stands in the total order; `after` takes it."""
    sequence = row["sequence"]
    rest = (row[name] for name in TOTAL_ORDER[2:])
    return [row["ts_event_ns"], sequence is None, sequence or 0, *rest]


def after(key: Sequence[Any], parameters: Parameters) -> str:
    """A condition for the rows that stand after `key` in the total order."""
    values = ", ".join(parameters.bind(value) for value in key)
    return f"({', '.join(ORDER_KEY)}) > ({values})"


def _from(scan: Scan, paths: Sequence[str], wanted: Filter, parameters: Parameters) -> str:
    files = f"read_parquet({parameters.bind(list(paths))}, union_by_name=true, hive_partitioning=false)"
    condition = _condition(wanted, scan.dataset, parameters)
    return f"SELECT '{scan.dataset.name}' AS dataset, * FROM {files} WHERE {condition}"


def _condition(wanted: Filter, dataset: Dataset, parameters: Parameters) -> str:
    bind = parameters.bind
    conditions = ["true"]
    if wanted.start_ns is not None:
        conditions.append(f"ts_event_ns >= {bind(wanted.start_ns)}")
    if wanted.end_ns is not None:
        conditions.append(f"ts_event_ns < {bind(wanted.end_ns)}")
    if wanted.symbols:
        conditions.append(f"symbol IN (SELECT unnest({bind(list(wanted.symbols))}))")
    if wanted.venues:
        conditions.append(f"venue IN (SELECT unnest({bind(list(wanted.venues))}))")
    if wanted.source is not None:
        conditions.append(f"source = {bind(wanted.source)}")
    if wanted.trading_date is not None:
        conditions.append(f"trading_date = {bind(wanted.trading_date)}::DATE")
    if dataset.name in CONDITIONED:
        if wanted.include_conditions:
            conditions.append(f"list_has_any(conditions, {bind(list(wanted.include_conditions))})")
        if wanted.exclude_conditions:
            conditions.append(f"NOT list_has_any(conditions, {bind(list(wanted.exclude_conditions))})")
    return " AND ".join(conditions)


CONDITIONED = ("trades", "quotes")


def _shown(plan: Plan, parameters: Parameters) -> str:
    """`Version.shows` of the plan's version, and not of the one it is without."""
    version, without = plan.version, plan.without
    bind = parameters.bind
    conditions = [_below(version, parameters)]
    if version.hidden:
        conditions.append(f"upload_id NOT IN (SELECT unnest({bind(sorted(version.hidden))}))")
    if without is not None:
        new = f"NOT {_below(without, parameters)}"
        if unhidden := unhidden_in(version, without):
            new = f"({new} OR upload_id IN (SELECT unnest({bind(sorted(unhidden))})))"
        conditions.append(new)
    return " AND ".join(conditions)


def _below(version: Version, parameters: Parameters) -> str:
    # A chain of cases costs least.
    bind = parameters.bind
    cases = " ".join(
        f"WHEN {bind(partition)} THEN {bind(offset)}" for partition, offset in sorted(version.offsets.items())
    )
    end = f"CASE kafka_partition {cases} ELSE 0 END" if cases else "0"
    epoch = bind(version.epoch)
    return f"(kafka_epoch < {epoch} OR (kafka_epoch = {epoch} AND kafka_offset < {end}))"
