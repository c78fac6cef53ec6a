"""Rows come in the order of their dataset, whatever order they arrived in."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from k2common.columnar.sorting import sort_indices, sorted_rows
from k2common.schemas.datasets import TICK_ORDER

ROW = st.tuples(
    st.sampled_from(["", "A", "AB", "B", "ß", "\U0001d538"]),
    st.one_of(st.integers(0, 3), st.sampled_from([-(2**62), 2**62])),
    st.one_of(st.none(), st.integers(0, 2)),
    st.sampled_from(["U1", "U2"]),
    st.integers(1, 4),
)
SCHEMA = pa.schema(
    [
        ("symbol", pa.string()),
        ("ts_event_ns", pa.int64()),
        ("sequence", pa.int64()),
        ("upload_id", pa.string()),
        ("line", pa.int64()),
    ]
)


def table(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(TICK_ORDER, row, strict=True)) for row in rows], SCHEMA)


def obvious(row: tuple[Any, ...]) -> tuple[Any, ...]:
    symbol, time, sequence, upload, line = row
    return symbol, time, sequence is None, sequence or 0, upload, line


@given(st.lists(ROW, max_size=40))
def test_the_order_is_that_of_sorted(rows: list[tuple[Any, ...]]) -> None:
    found = sorted_rows(table(rows), TICK_ORDER)
    assert [tuple(row.values()) for row in found.to_pylist()] == sorted(rows, key=obvious)


@given(st.lists(ROW, max_size=40))
def test_equal_rows_stay_in_the_order_in_which_they_came(rows: list[tuple[Any, ...]]) -> None:
    found = sort_indices(table(rows), TICK_ORDER).tolist()
    assert found == sorted(range(len(rows)), key=lambda n: obvious(rows[n]))


def test_one_column_is_enough() -> None:
    assert sort_indices(table([("B", 1, 1, "U", 1), ("A", 1, 1, "U", 1)]), ["symbol"]).tolist() == [1, 0]
