"""Rows in a dataset's order, stable for what the order does not tell apart; nulls come last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k2common.columnar.arrow import Column

Ranks: TypeAlias = "npt.NDArray[np.int64]"
SAMPLE_ROWS = 1000
FEW_VALUES = 200


def sorted_rows(rows: pa.Table, order: Sequence[str]) -> pa.Table:
    """The rows by the columns of `order`, the first two of which hold no nulls.

    Texts of few values come as dictionary arrays: moving their codes costs a fifth of moving them.
    """
    coded = _coded(rows.combine_chunks())
    return coded.take(pa.array(sort_indices(coded, order)))


def sort_indices(rows: pa.Table, order: Sequence[str]) -> Ranks:
    """The positions of the rows in that order.

    One integer holds the first two columns, and only rows that it does not tell apart are compared further.
    """
    if not rows.num_rows:
        return np.zeros(0, np.int64)
    key, rest = _leading(rows, order)
    found = np.argsort(key, kind="stable")
    equal = key[found[1:]] == key[found[:-1]]
    if rest and equal.any():
        # Every row that has an equal neighbour, in place of those rows and no others.
        tied = np.flatnonzero(np.append(equal, False) | np.insert(equal, 0, False))
        among = found[tied]
        keys: list[Any] = []
        for name in reversed(rest):
            keys += _ranks(_array(rows, name).take(pa.array(among)))
        found[tied] = among[np.lexsort([*keys, key[among]])]
    return found


def _leading(rows: pa.Table, order: Sequence[str]) -> tuple[Ranks, Sequence[str]]:
    first = _ranks(_array(rows, order[0]))[0]
    if len(order) == 1:
        return first, ()
    second = _ranks(_array(rows, order[1]))[0]
    span = int(second.max()) - int(second.min()) + 1
    if span * (int(first.max()) + 1) < 2**63:
        return first * span + (second - second.min()), order[2:]
    return first, order[1:]


def _ranks(column: Column) -> list[Ranks]:
    """Keys of lexsort that order the column: the values, and after them, more important, which are null."""
    if not pa.types.is_dictionary(column.type) and not pa.types.is_string(column.type):
        values = column.cast(pa.int32()) if pa.types.is_date32(column.type) else column
        filled = pc.fill_null(values.cast(pa.int64()), 0)
        keys = [np.asarray(filled.to_numpy(zero_copy_only=False), np.int64)]
    else:
        coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        rank = np.zeros(max(len(coded.dictionary), 1), np.int64)
        rank[pc.sort_indices(coded.dictionary).to_numpy()] = np.arange(len(coded.dictionary))
        codes = pc.fill_null(coded.indices, 0).to_numpy(zero_copy_only=False)
        keys = [rank[codes]]
    if column.null_count:
        keys.append(np.asarray(column.is_null().to_numpy(zero_copy_only=False), np.int64))
    return keys


def _array(rows: pa.Table, name: str) -> Column:
    column: Any = rows[name].combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _coded(rows: pa.Table) -> pa.Table:
    for n, field in enumerate(rows.schema):
        if pa.types.is_string(field.type):
            column: Any = rows[field.name]
            if len(pc.unique(column.slice(0, SAMPLE_ROWS))) <= FEW_VALUES:
                rows = rows.set_column(n, field.name, pc.dictionary_encode(column))
    return rows
