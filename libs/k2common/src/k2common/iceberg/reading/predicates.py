"""Conditions on columns, as the planner of the table format takes them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

import pyiceberg.expressions
from pyiceberg.expressions import BooleanExpression

Condition: TypeAlias = BooleanExpression
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


def among(column: str, values: Collection[str | int]) -> BooleanExpression:
    """The column has one of these values."""
    expression: BooleanExpression = CLASSES.In(column, set(values))
    return expression


def everything() -> BooleanExpression:
    """No condition."""
    expression: BooleanExpression = CLASSES.AlwaysTrue()
    return expression
