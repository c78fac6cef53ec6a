"""A new field that may be null is a new column; any other difference of schemas is refused by name."""

from typing import Any

import pytest
from k2common.columnar.evolution import Unreadable, added
from k2common.schemas.datasets import MARKET_DATASETS, avro_schema

KNOWN: dict[str, Any] = {
    "price": {
        "name": "price",
        "type": {"type": "bytes", "logicalType": "decimal", "precision": 28, "scale": 12},
    },
    "side": {"name": "side", "type": {"type": "enum", "name": "Side", "symbols": ["buy", "sell"]}},
    "size": {"name": "size", "type": "int"},
    "note": {"name": "note", "type": ["null", "string"], "default": None},
    "tags": {"name": "tags", "type": {"type": "array", "items": "string"}},
}


def written(*fields: dict[str, Any], without: str = "") -> dict[str, Any]:
    kept = {**KNOWN, **{field["name"]: field for field in fields}}
    return {"type": "record", "name": "R", "fields": [f for name, f in kept.items() if name != without]}


def new(kind: Any, **fields: Any) -> dict[str, Any]:
    return {"name": "new", "type": ["null", kind], "default": None, **fields}


@pytest.mark.parametrize("name", MARKET_DATASETS)
def test_a_datasets_own_schema_adds_nothing(name: str) -> None:
    schema = avro_schema(MARKET_DATASETS[name].topic.schema)
    assert added(schema, {field["name"]: field for field in schema["fields"]}) == []


@pytest.mark.parametrize(
    "kind",
    [
        "string",
        "long",
        {"type": "long", "logicalType": "timestamp-micros"},
        {"type": "bytes", "logicalType": "decimal", "precision": 28, "scale": 12},
        {"type": "enum", "name": "E", "symbols": ["a"]},
        {"type": "array", "items": "string"},
        {"type": "map", "values": "string"},
    ],
    ids=str,
)
def test_a_new_field_that_may_be_null_is_added(kind: Any) -> None:
    assert added(written(new(kind)), KNOWN) == [new(kind)]


def test_what_may_be_null_may_be_left_out_and_an_enum_may_have_fewer_symbols_and_another_doc() -> None:
    side = {
        "name": "side",
        "type": {"type": "enum", "name": "S2", "doc": "d", "symbols": ["sell"]},
        "doc": "x",
    }
    assert added(written(side, without="note"), KNOWN) == []


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (written(without="size"), "size is not in the writer's schema"),
        (written({"name": "size", "type": "long"}), "size is long"),
        (written({"name": "size", "type": ["null", "int"], "default": None}), "size is"),
        (written({"name": "price", "type": {**KNOWN["price"]["type"], "scale": 8}}), "price is"),
        (
            written({"name": "side", "type": {"type": "enum", "name": "Side", "symbols": ["buy", "x"]}}),
            "side is",
        ),
        (written({"name": "new", "type": "long", "default": 0}), "not null by default"),
        (written({"name": "new", "type": ["long", "null"], "default": 0}), "not null by default"),
        (written({"name": "new", "type": ["null", "long"]}), "not null by default"),
        (
            written(new({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2})),
            "no type of a column",
        ),
        (written(new({"type": "long", "logicalType": "timestamp-millis"})), "no type of a column"),
        (written(new({"type": "array", "items": {"type": "array", "items": "long"}})), "no type of a column"),
        (written(new("string", name="kafka_offset")), "the table's own"),
        ({"type": "enum", "name": "E", "symbols": []}, "no record"),
    ],
)
def test_any_other_difference_is_refused(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        added(schema, KNOWN)
