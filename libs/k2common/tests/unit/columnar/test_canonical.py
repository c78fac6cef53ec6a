"""The digest depends on rows and order alone, and equals the definition computed row by row."""

import hashlib
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2common.columnar.canonical import BLOCK_ROWS, START, Digest

SCHEMA = pa.schema(
    [
        ("symbol", pa.string()),
        ("price", pa.decimal128(28, 12)),
        ("ts", pa.timestamp("us", "UTC")),
        ("day", pa.date32()),
        ("line", pa.int64()),
        ("flags", pa.int32()),
        ("conditions", pa.list_(pa.string())),
        ("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
text = st.text(max_size=4)
values = {
    "symbol": text,
    "price": st.decimals(-(10**15), 10**15, places=12),
    "ts": st.datetimes(timezones=st.just(UTC)),
    "day": st.dates(),
    "line": st.integers(-(2**63), 2**63 - 1),
    "flags": st.integers(-(2**31), 2**31 - 1),
    "conditions": st.lists(text, max_size=3),
    "attributes": st.dictionaries(text, text, max_size=3).map(lambda entries: list(entries.items())),
}
rows = st.lists(
    st.fixed_dictionaries({name: st.none() | strategy for name, strategy in values.items()}), max_size=8
)
FIXED: dict[str, tuple[bytes, Callable[[Any], bytes]]] = {
    "price": (
        b"decimal128(28, 12)\n",
        lambda v: int((v or Decimal(0)).scaleb(12)).to_bytes(16, "little", signed=True),
    ),
    "ts": (
        b"timestamp_us\n",
        lambda v: struct.pack("<q", 0 if v is None else pa.scalar(v, pa.timestamp("us", "UTC")).value),
    ),
    "day": (b"date32[day]\n", lambda v: struct.pack("<i", 0 if v is None else (v - date(1970, 1, 1)).days)),
    "line": (b"int64\n", lambda v: struct.pack("<q", v or 0)),
    "flags": (b"int32\n", lambda v: struct.pack("<i", v or 0)),
}


def strings(column: list[str | None]) -> bytes:
    encoded = [(v or "").encode() for v in column]
    lengths = b"".join(struct.pack("<i", len(v)) for v in encoded)
    return b"string\n" + bytes(v is not None for v in column) + lengths + b"".join(encoded)


def slow_block(block: list[dict[str, Any]]) -> bytes:
    out = struct.pack("<I", len(block))
    for name in SCHEMA.names:
        column = [row[name] for row in block]
        valid = bytes(value is not None for value in column)
        lengths = b"".join(struct.pack("<i", len(v or ())) for v in column) if name not in FIXED else b""
        if name in FIXED:
            tag, encode = FIXED[name]
            out += tag + valid + b"".join(map(encode, column))
        elif name == "symbol":
            out += strings(column)
        elif name == "conditions":
            out += b"list\n" + valid + lengths + strings([item for v in column for item in v or ()])
        else:
            entries = [entry for v in column for entry in v or ()]
            out += (
                b"map\n"
                + valid
                + lengths
                + strings([k for k, _ in entries])
                + strings([v for _, v in entries])
            )
    return out


# The first draw of a process builds Hypothesis's table of characters.
@given(rows, st.data())
def test_it_equals_the_definition_row_by_row_however_the_rows_are_cut(
    block: list[dict[str, Any]], data: st.DataObject
) -> None:
    table = pa.Table.from_pylist(block, SCHEMA)
    cuts = sorted({0, len(block), *data.draw(st.lists(st.integers(0, len(block)), max_size=3))})
    digest = Digest()
    for first, end in pairwise(cuts):
        digest.update(table.slice(first, end - first))
    expected = hashlib.sha256(START + slow_block(block)).digest() if block else START
    assert digest.finish() == expected
    assert digest.rows == len(block)


@pytest.fixture(scope="module")
def long_table() -> pa.Table:
    count = 2 * BLOCK_ROWS + 1000
    symbols = pa.array(["BHP", "RIO", None] * (count // 3 + 1))[:count].dictionary_encode()
    return pa.table({"symbol": symbols, "line": pa.array(range(count))})


def whole(table: pa.Table) -> bytes:
    digest = Digest()
    digest.update(table)
    return digest.finish()


def test_encodings_of_the_same_strings_give_the_same_digest(long_table: pa.Table) -> None:
    for kind in (pa.string(), pa.large_string()):
        assert whole(long_table.set_column(0, "symbol", long_table["symbol"].cast(kind))) == whole(long_table)


def test_it_goes_on_from_the_end_of_a_block(long_table: pa.Table) -> None:
    first = Digest()
    first.update(long_table.slice(0, BLOCK_ROWS + 7))
    second = Digest(blocks=first.blocks, chain=first.chain)
    second.update(long_table.slice(first.blocks * BLOCK_ROWS))
    assert first.blocks == 1
    assert second.finish() == whole(long_table)
    assert second.rows == long_table.num_rows


def test_another_order_gives_another_digest(long_table: pa.Table) -> None:
    swapped = pa.concat_tables([long_table.slice(1, 1), long_table.slice(0, 1), long_table.slice(2)])
    assert whole(swapped) != whole(long_table)


def test_a_moment_is_the_same_in_every_zone() -> None:
    moment = datetime(2014, 3, 10, tzinfo=UTC)
    zones = [pa.timestamp("us", zone) for zone in ("UTC", "Australia/Sydney", None)]
    micros = pa.array([int(moment.timestamp() * 10**6)])
    assert len({whole(pa.table({"ts": micros.cast(zone)})) for zone in zones}) == 1
