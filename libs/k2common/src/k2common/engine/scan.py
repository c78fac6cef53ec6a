"""The rows of planned versions as SQL: the version's rule, the caller's filter, the one total order.

Names come from the datasets alone, values are parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

from k2common.domain.ordering import TOTAL_ORDER
from k2common.domain.time import to_datetime
from k2common.engine.connection import empty_table
from k2common.iceberg.reading.plan import Plan, unhidden_in
from k2common.schemas.datasets import Dataset, OwnTable, avro_schema
from k2common.versions.version import Version

OPERATORS: Mapping[str, str] = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
DECIMAL = "DECIMAL(28, 12)"
FEW_VALUES = 50
MANY_PARTITIONS = 12
EPOCH_DAY = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnBound:
    """A decimal column compared with a value by one of OPERATORS; null is on no side of any value."""

    column: str
    operator: str
    value: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which rows are wanted; what is None or empty is no condition.

    Times of `clock`, one of CLOCKS, are nanoseconds in [start, end).
    """

    start_ns: int | None = None
    end_ns: int | None = None
    symbols: Sequence[str] = ()
    venues: Sequence[str] = ()
    source: str | None = None
    trading_date: str | None = None
    include_conditions: Sequence[str] = ()
    exclude_conditions: Sequence[str] = ()
    any_conditions: Sequence[str] = ()
    sides: Sequence[str] = ()
    bounds: Sequence[ColumnBound] = ()
    clock: str = "ts_event_ns"

    @property
    def trading_day(self) -> int | None:
        """The trading date in days since 1970."""
        if self.trading_date is None:
            return None
        return (date.fromisoformat(self.trading_date) - EPOCH_DAY).days


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The wanted rows of one dataset in one version."""

    dataset: Dataset | OwnTable
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
        whole = _has_all_columns(scan)
        if not whole or len(scans) > 1:
            parts.append(no_rows_sql(scan.dataset))
        if scan.plan.all_visible:
            parts.append(_from(scan, scan.plan.all_visible, wanted, parameters, whole=whole))
        if scan.plan.straddling:
            rule = shown(scan.plan, parameters)
            some = _from(scan, scan.plan.straddling, wanted, parameters, whole=whole)
            parts.append(f"{some} AND {rule}")
    return " UNION ALL BY NAME ".join(parts)


def no_rows_sql(dataset: Dataset | OwnTable) -> str:
    """A statement for no row, with the columns that `rows_sql` gives."""
    return f"SELECT '{dataset.name}' AS dataset, * FROM {empty_table(dataset.name)}"


def _has_all_columns(scan: Scan) -> bool:
    """Whether the files alone give all columns; to join others by name costs a millisecond."""
    return bool(scan.plan.paths) and scan.plan.columns >= _columns(scan.dataset.schema)


@cache
def _columns(schema: str) -> frozenset[str]:
    return frozenset(field["name"] for field in avro_schema(schema)["fields"])


CLOCKS: Mapping[str, Sequence[str]] = {
    "ts_event_ns": ["ts_event_ns"],
    "ts_recv_ns": ["ts_recv_ns IS NULL", "coalesce(ts_recv_ns, 0)"],
    "ts_ingest": ["epoch_us(ts_ingest)"],
}
"""Columns that may lead the order, as expressions none of which is null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The total order, by another clock or backwards on demand.

    A clock's column takes the place of the first key. Nulls come last, and first backwards.
    """

    clock: str = "ts_event_ns"
    descending: bool = False

    @property
    def by(self) -> str:
        """What follows ORDER BY."""
        direction = "DESC NULLS FIRST" if self.descending else "ASC NULLS LAST"
        return ", ".join(f"{name} {direction}" for name in (self.clock, *TOTAL_ORDER[1:]))

    @property
    def expressions(self) -> Sequence[str]:
        """The order as expressions none of which is null."""
        return [*CLOCKS[self.clock], "sequence IS NULL", "coalesce(sequence, 0)", *TOTAL_ORDER[2:]]

    @property
    def columns(self) -> Mapping[str, str]:
        """The expressions by names that no dataset has."""
        return {f"key_{n}": expression for n, expression in enumerate(self.expressions)}

    def after(self, key: Sequence[Any], parameters: Parameters) -> str:
        """A condition for the rows that stand after the one whose `columns` have the values `key`."""
        values = ", ".join(parameters.bind(value) for value in key)
        return f"({', '.join(self.expressions)}) {'<' if self.descending else '>'} ({values})"

    def narrowed(self, wanted: Filter, key: Sequence[Any]) -> Filter:
        """The filter without times that lie before `key`, so that files are left out."""
        untimed = self.clock == "ts_recv_ns" and wanted.start_ns is None and wanted.end_ns is None
        if self.clock == "ts_recv_ns" and (key[0] or (untimed and not self.descending)):
            return wanted  # rows without a time stand after `key`, and no range has them
        time = key[len(CLOCKS[self.clock]) - 1] * (1000 if self.clock == "ts_ingest" else 1)
        if self.descending:
            return replace(wanted, end_ns=time + 1 if wanted.end_ns is None else min(time + 1, wanted.end_ns))
        return replace(wanted, start_ns=time if wanted.start_ns is None else max(time, wanted.start_ns))


ORDER = Order()
ORDER_BY = ORDER.by


def order_key(row: Mapping[str, Any]) -> Sequence[Any]:
    """Where the row stands in the total order; `after` takes it."""
    sequence = row["sequence"]
    rest = (row[name] for name in TOTAL_ORDER[2:])
    return [row["ts_event_ns"], sequence is None, sequence or 0, *rest]


def after(key: Sequence[Any], parameters: Parameters) -> str:
    """A condition for the rows that stand after `key` in the total order."""
    return ORDER.after(key, parameters)


def _from(scan: Scan, paths: Sequence[str], wanted: Filter, parameters: Parameters, *, whole: bool) -> str:
    by_name = "" if whole else ", union_by_name=true"
    files = f"read_parquet({parameters.bind(scan.plan.opened(paths))}{by_name}, hive_partitioning=false)"
    condition = _condition(wanted, scan.dataset, parameters)
    return f"SELECT '{scan.dataset.name}' AS dataset, * FROM {files} WHERE {condition}"


def _condition(wanted: Filter, dataset: Dataset | OwnTable, parameters: Parameters) -> str:
    bind = parameters.bind
    conditions = ["true", *_times(wanted, parameters)]
    conditions += _one_of("symbol", wanted.symbols, parameters)
    conditions += _one_of("venue", wanted.venues, parameters)
    if wanted.source is not None:
        conditions.append(f"source = {bind(wanted.source)}")
    if wanted.trading_date is not None:
        conditions.append(f"trading_date = {bind(wanted.trading_date)}::DATE")
    if dataset.name in CONDITIONED:
        for names in (wanted.include_conditions, wanted.any_conditions):
            if names:
                conditions.append(f"list_has_any(conditions, {bind(list(names))})")
        if wanted.exclude_conditions:
            conditions.append(f"NOT list_has_any(conditions, {bind(list(wanted.exclude_conditions))})")
    conditions += _one_of("side", wanted.sides, parameters)
    conditions += [_compared(bound, dataset, parameters) for bound in wanted.bounds]
    return " AND ".join(conditions)


CONDITIONED = ("trades", "quotes")


def _times(wanted: Filter, parameters: Parameters) -> Iterator[str]:
    for operator, time in ((">=", wanted.start_ns), ("<", wanted.end_ns)):
        if time is None:
            continue
        if wanted.clock == "ts_ingest":
            # A microsecond is within the range if its first nanosecond is.
            yield f"ts_ingest {operator} {parameters.bind(to_datetime(-(-time // 1000) * 1000))}"
        else:
            yield f"{wanted.clock} {operator} {parameters.bind(time)}"


def _one_of(column: str, values: Sequence[str], parameters: Parameters) -> Sequence[str]:
    if not values:
        return []
    if len(values) > FEW_VALUES:
        return [f"{column} IN (SELECT unnest({parameters.bind(list(values))}))"]
    # The engine pushes these down to the row groups, which it does not do with a list of one parameter.
    return [f"{column} IN ({', '.join(parameters.bind(value) for value in values)})"]


def _compared(bound: ColumnBound, dataset: Dataset | OwnTable, parameters: Parameters) -> str:
    if bound.column not in _columns(dataset.schema):
        raise KeyError(f"{dataset.name} has no column {bound.column}")
    value = f"CAST({parameters.bind(bound.value)} AS {DECIMAL})"
    return f"{bound.column} {OPERATORS[bound.operator]} {value}"


def shown(plan: Plan, parameters: Parameters) -> str:
    """`Version.shows` of the plan's version, and not of the one it is without."""
    version, without = plan.version, plan.without
    conditions = [_below(version, parameters)]
    if version.hidden:
        conditions.append(f"NOT {_of_uploads(version.hidden, parameters)}")
    if without is not None:
        new = f"NOT {_below(without, parameters)}"
        if unhidden := unhidden_in(version, without):
            new = f"({new} OR {_of_uploads(unhidden, parameters)})"
        conditions.append(new)
    return " AND ".join(conditions)


def _of_uploads(uploads: Iterable[str], parameters: Parameters) -> str:
    (condition,) = _one_of("upload_id", sorted(uploads), parameters)
    return f"({condition})"


def _below(version: Version, parameters: Parameters) -> str:
    epoch = parameters.bind(version.epoch)
    end = _ends(version.offsets, parameters)
    return f"(kafka_epoch < {epoch} OR (kafka_epoch = {epoch} AND kafka_offset < {end}))"


def _ends(offsets: Mapping[int, int], parameters: Parameters) -> str:
    # A chain of cases costs least, up to some partitions.
    if not offsets:
        return "0"
    if len(offsets) > MANY_PARTITIONS:
        ends = [offsets.get(partition, 0) for partition in range(max(offsets) + 1)]
        return f"coalesce(list_extract({parameters.bind(ends)}, kafka_partition + 1), 0)"
    bind = parameters.bind
    cases = " ".join(f"WHEN {bind(p)} THEN {bind(offset)}" for p, offset in sorted(offsets.items()))
    return f"CASE kafka_partition {cases} ELSE 0 END"
