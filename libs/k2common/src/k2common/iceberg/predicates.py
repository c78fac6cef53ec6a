"""Conditions on columns, as the planner of the table format takes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyiceberg.expressions
from pyiceberg.expressions import BooleanExpression

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The classes' types name pydantic's fields, not the arguments (column, value) that they take.
CLASSES: Any = pyiceberg.expressions


def equal(column: str, value: str | int) -> BooleanExpression:
    """The column has this value."""
    expression: BooleanExpression = CLASSES.EqualTo(column, value)
    return expression


def at_most(column: str, value: str | int) -> BooleanExpression:
    """The column has this value or a smaller one; times in ISO format."""
    expression: BooleanExpression = CLASSES.LessThanOrEqual(column, value)
    return expression


def at_least(column: str, value: int) -> BooleanExpression:
    """The column has this value or a larger one."""
    expression: BooleanExpression = CLASSES.GreaterThanOrEqual(column, value)
    return expression


def both(first: BooleanExpression, second: BooleanExpression) -> BooleanExpression:
    """First and second."""
    expression: BooleanExpression = CLASSES.And(first, second)
    return expression


def events(
    *, start_ns: int | None, end_ns: int | None, symbols: Sequence[str], upload_id: str | None
) -> BooleanExpression:
    """Events of [start_ns, end_ns), both optional, of these symbols, of this upload; all for none."""
    conditions: BooleanExpression = CLASSES.AlwaysTrue()
    if start_ns is not None:
        since = CLASSES.GreaterThanOrEqual("ts_event", _stamp(start_ns // 1000))
        conditions = both(conditions, since)
    if end_ns is not None:
        conditions = both(conditions, at_most("ts_event", _stamp((end_ns - 1) // 1000)))
    if symbols:
        conditions = both(conditions, CLASSES.In("symbol", set(symbols)))
    if upload_id is not None:
        conditions = both(conditions, equal("upload_id", upload_id))
    return conditions


def _stamp(micros: int) -> str:
    return (EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds")
