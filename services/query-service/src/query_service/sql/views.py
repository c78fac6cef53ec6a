"""The tables that SQL reads: each a view of the rows that one version shows, and of no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k2common.engine.scan import Filter, Parameters, Scan, rows_sql
from k2common.engine.text import columns_of, quoted
from k2common.query.sandbox import Task
from k2common.schemas.datasets import GAPS, MARKET_DATASETS, Dataset, OwnTable

VIEWS: Mapping[str, Dataset | OwnTable] = {**MARKET_DATASETS, GAPS.name: GAPS}
"""What a statement may read, by name."""


class Variables(Parameters):
    """Values under names that a view, which takes no parameters, can ask for."""

    def bind(self, value: Any) -> str:
        """What stands for the value."""
        name = f"k2_{len(self.values)}"
        self.values[name] = value
        return f"getvariable('{name}')"


def task_of(
    scans: Mapping[str, Scan | None],
    wanted: Filter,
    *,
    form: str,
    limit: int | None,
    parameters: Mapping[str, Any],
    in_order: bool,
) -> Task:
    """The views by name, over the planned files; one without a version has no rows."""
    variables = Variables()
    statements: list[str] = []
    paths: list[str] = []
    for name, scan in scans.items():
        dataset = VIEWS[name]
        rows = f"SELECT * FROM empty_{name}"
        if scan is not None:
            rows = rows_sql([scan], narrowed(wanted, dataset), variables)
            paths += [*scan.plan.all_visible, *scan.plan.straddling]
        columns = ", ".join(quoted(column) for column in columns_of(dataset))
        statements.append(f"CREATE VIEW {name} AS SELECT {columns} FROM ({rows})")
    return Task(
        datasets=list(scans),
        statements=statements,
        variables=variables.values,
        paths=paths,
        format=form,
        limit=limit,
        parameters=parameters,
        sorted=in_order,
    )


def narrowed(wanted: Filter, dataset: Dataset | OwnTable) -> Filter:
    """Those of the conditions that the dataset has columns for."""
    if "ts_event_ns" in columns_of(dataset):
        return wanted
    return Filter(symbols=wanted.symbols)
