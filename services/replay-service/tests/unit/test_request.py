"""A replay's request is checked whole, each fault by its pointer."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.columnar.canonical import BLOCK_ROWS
from k2common.http.problems import Problem
from k2common.http.tokens import TokenMaker
from k2common.schemas.datasets import QUOTES, TRADES
from replay_service.request import ReplayRequest
from replay_service.stream import Cursor, CursorToken, digest_columns, split_at_blocks


def read(**fields: Any) -> ReplayRequest:
    return ReplayRequest.read(json.dumps(fields).encode())


def test_datasets_stand_once_and_in_one_order() -> None:
    assert read(datasets=["trades", "quotes", "trades"]).datasets == ("quotes", "trades")


def test_all_symbols_are_no_condition() -> None:
    assert read(symbols=["*"]).to_filter().symbols == ()
    assert read(symbols=["A", "B"]).to_filter().symbols == ("A", "B")


def test_times_become_nanoseconds() -> None:
    wanted = read(start="2014-03-11", end="1394582400000000001").to_filter()
    assert (wanted.start_ns, wanted.end_ns) == (1394496000_000000000, 1394582400_000000001)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"datasets": []}, "/datasets"),
        ({"datasets": ["bars"]}, "/datasets/0"),
        ({"start": "soon"}, "/start"),
        ({"speed": "1x"}, "/speed"),
        ({"sybmols": ["A"]}, "/sybmols"),
    ],
)
def test_a_fault_is_named(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Problem) as caught:
        read(**fields)
    assert caught.value.status == 400
    assert pointer in [error.parameter for error in caught.value.errors]


def test_a_body_that_is_no_json_is_400() -> None:
    with pytest.raises(Problem) as caught:
        ReplayRequest.read(b"{")
    assert caught.value.status == 400


@given(st.integers(0, 3 * BLOCK_ROWS), st.lists(st.integers(0, 2 * BLOCK_ROWS), max_size=4))
def test_rows_are_split_where_blocks_end(before: int, sizes: list[int]) -> None:
    for size in sizes:
        parts = split_at_blocks(pa.table({"n": pa.nulls(size)}), before)
        assert sum(part.num_rows for part in parts) == size
        for part in parts:
            before += part.num_rows
            assert before % BLOCK_ROWS == 0 or part is parts[-1]
            assert part.num_rows <= BLOCK_ROWS


def test_a_cursor_reads_back() -> None:
    cursor = Cursor(blocks=2, chain=b"\x01" * 32, key=[1, True, 0, "trades", "X", "S", "U", 9])
    tokens = TokenMaker(b"a-secret-of-the-tests", purpose="cursor", shape=CursorToken)
    read = tokens.read(tokens.make(cursor.to_token("S1")))
    assert (read.session, Cursor.from_token(read)) == ("S1", cursor)
    assert cursor.rows == 2 * BLOCK_ROWS


def test_the_digest_covers_each_column_once() -> None:
    columns = digest_columns([QUOTES, TRADES])
    assert columns[0] == "dataset"
    assert len(columns) == len(set(columns))
    assert {"bid_price", "price", "line"} <= set(columns)
