"""Messages from columns are byte for byte those of fastavro, one row at a time."""

import io
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from k2common.columnar.arrow import arrow_schema
from k2common.columnar.encode import RecordEncoder
from k2common.schemas.datasets import avro_schema

SCHEMA_ID = 7
NAMES = ["trades", "quotes", "instruments", "rejects"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LIMIT = 10**28 - 1


def values_of(avro_type: Any) -> st.SearchStrategy[Any]:
    if isinstance(avro_type, list):
        return st.none() | values_of(avro_type[1])
    name = avro_type if isinstance(avro_type, str) else avro_type.get("logicalType", avro_type["type"])
    return {
        "string": lambda: st.text(max_size=8),
        "int": lambda: st.integers(-(2**31), 2**31 - 1),
        "long": lambda: st.integers(-(2**63), 2**63 - 1),
        "date": lambda: st.dates(date(1970, 1, 1), date(2200, 1, 1)),
        "timestamp-micros": lambda: st.integers(-(2**50), 2**51).map(
            lambda micros: EPOCH + timedelta(microseconds=micros)
        ),
        "decimal": lambda: st.integers(-LIMIT, LIMIT).map(lambda unscaled: Decimal(unscaled).scaleb(-12)),
        "enum": lambda: st.sampled_from(avro_type["symbols"]),
        "array": lambda: st.lists(st.text(max_size=4), max_size=3),
        "map": lambda: st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
    }[name]()


def rows_of(schema: Mapping[str, Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    row = st.fixed_dictionaries({f["name"]: values_of(f["type"]) for f in schema["fields"]})
    return st.lists(row, min_size=1, max_size=6)


def by_fastavro(schema: Mapping[str, Any], row: Mapping[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), row)
    return b"\x00" + SCHEMA_ID.to_bytes(4, "big") + out.getvalue()


def batch_of(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    # pyarrow takes a map as pairs.
    plain = [{k: list(v.items()) if isinstance(v, dict) else v for k, v in row.items()} for row in rows]
    return pa.RecordBatch.from_pylist(plain, schema=schema)


@pytest.mark.parametrize("name", NAMES)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_messages_are_those_of_fastavro(name: str, data: st.DataObject) -> None:
    schema = avro_schema(name)
    rows = data.draw(rows_of(schema))
    encoder = RecordEncoder(schema, SCHEMA_ID)
    batch = batch_of(rows, arrow_schema(schema))
    expected = [by_fastavro(schema, row) for row in rows]
    assert encoder.messages(batch).to_pylist() == expected
    coded = pa.RecordBatch.from_arrays(
        [
            column.dictionary_encode() if pa.types.is_string(column.type) else column
            for column in batch.columns
        ],
        names=batch.schema.names,
    )
    assert encoder.messages(coded).to_pylist() == expected


DECIMALS = {
    "type": "record",
    "name": "D",
    "fields": [
        {
            "name": "d",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 28, "scale": 12},
        }
    ],
}


@pytest.mark.parametrize("sign", [1, -1])
def test_decimals_at_every_change_of_length(sign: int) -> None:
    edges = [sign * (2**bits + step) for bits in range(93) for step in (-1, 0, 1)]
    rows = [{"d": Decimal(edge).scaleb(-12)} for edge in edges]
    batch = batch_of(rows, arrow_schema(DECIMALS))
    encoder = RecordEncoder(DECIMALS, SCHEMA_ID)
    assert encoder.messages(batch).to_pylist() == [by_fastavro(DECIMALS, row) for row in rows]


def test_a_sliced_batch_encodes_its_own_rows() -> None:
    schema = avro_schema("trades")
    rows = [
        {
            **{f["name"]: None for f in schema["fields"]},
            "venue": "ASX", "source": "s", "asset_class": "equity", "upload_id": "u", "ts_ingest": EPOCH,
            "symbol": f"S{n}", "trading_date": date(2014, 3, 10), "side": "buy",
            "conditions": [str(n)] * (n % 3), "flags": n, "attributes": {"n": str(n)} if n % 2 else {},
            "ts_event": EPOCH, "ts_event_ns": n, "price": Decimal(n), "size": Decimal(-n), "line": n,
        }
        for n in range(9)
    ]  # fmt: skip
    batch = batch_of(rows, arrow_schema(schema))
    encoder = RecordEncoder(schema, SCHEMA_ID)
    assert encoder.messages(batch.slice(3, 4)).to_pylist() == encoder.messages(batch).to_pylist()[3:7]


def test_a_null_where_none_is_allowed_is_refused() -> None:
    batch = pa.RecordBatch.from_arrays([pa.nulls(2, arrow_schema(DECIMALS).field(0).type)], names=["d"])
    with pytest.raises(ValueError, match="d holds 2 nulls"):
        RecordEncoder(DECIMALS, SCHEMA_ID).messages(batch)


def test_a_symbol_that_an_enum_lacks_is_refused() -> None:
    schema = {
        "type": "record",
        "name": "E",
        "fields": [{"name": "e", "type": {"type": "enum", "name": "X", "symbols": ["a", "b"]}}],
    }
    with pytest.raises(ValueError, match="c is none of a, b"):
        RecordEncoder(schema, SCHEMA_ID).messages(pa.RecordBatch.from_pydict({"e": ["a", "c"]}))


def test_values_that_no_row_has_any_more_are_not_encoded() -> None:
    symbols = pa.DictionaryArray.from_arrays(pa.array([0, 2], pa.int32()), pa.array(["A", None, "B"]))
    kinds = pa.DictionaryArray.from_arrays(pa.array([1, 1], pa.int32()), pa.array(["no such kind", "x"]))
    schema = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "symbol", "type": "string"},
            {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["x", "y"]}},
        ],
    }
    rows = pa.RecordBatch.from_arrays([symbols, kinds], names=["symbol", "kind"])
    found = RecordEncoder(schema, 1).messages(rows).to_pylist()
    assert [value[5:] for value in found] == [b"\x02A\x00", b"\x02B\x00"]
