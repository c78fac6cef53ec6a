"""The table of topics and tables is whole and its schemas say what they should."""

from collections.abc import Iterator
from typing import Any

import fastavro
import pytest
from k2common.schemas.datasets import (
    CHUNK_PARTITIONS,
    DATASETS,
    DAY_MS,
    MARKET_DATASETS,
    POSITIONS,
    TOPICS,
    Dataset,
    Topic,
    avro_schema,
)


def fields(name: str) -> dict[str, Any]:
    return {field["name"]: field for field in avro_schema(name)["fields"]}


def nested_types(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, list):
        for branch in schema:
            yield from nested_types(branch)
    elif isinstance(schema, dict):
        yield schema
        for part in ("type", "items", "values"):
            yield from nested_types(schema.get(part))
        for field in schema.get("fields", ()):
            yield from nested_types(field["type"])


@pytest.mark.parametrize("topic", TOPICS, ids=lambda t: t.name)
def test_every_topic_has_a_valid_documented_schema_and_a_subject(topic: Topic) -> None:
    fastavro.parse_schema(dict(avro_schema(topic.schema)))
    assert topic.subject == f"{topic.name}-value"
    assert all(field["doc"] for field in fields(topic.schema).values())


def test_topic_and_table_names_are_unique() -> None:
    assert len({t.name for t in TOPICS}) == len(TOPICS)
    assert len({d.table for d in DATASETS.values()}) == len(DATASETS)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda d: d.name)
def test_key_order_and_partition_are_columns_of_the_schema(dataset: Dataset) -> None:
    partition = () if dataset.partition_by is None else (dataset.partition_by,)
    columns = fields(dataset.topic.schema)
    assert {*dataset.key, *dataset.order, *partition} <= columns.keys()


@pytest.mark.parametrize("dataset", MARKET_DATASETS.values(), ids=lambda d: d.name)
def test_every_market_row_names_its_upload_and_line(dataset: Dataset) -> None:
    assert {"upload_id", "line", "ts_ingest", "source"} <= fields(dataset.topic.schema).keys()
    assert dataset.order[-2:] == ("upload_id", "line")


@pytest.mark.parametrize("name", ["trades", "quotes"])
def test_decimals_times_and_enums_have_the_types_of_the_contract(name: str) -> None:
    types = list(nested_types(avro_schema(name)))
    decimals = [t for t in types if t.get("logicalType") == "decimal"]
    assert decimals
    assert all((t["precision"], t["scale"]) == (28, 12) for t in decimals)
    assert not [t for t in types if t.get("logicalType", "").startswith(("timestamp-millis", "time-"))]
    assert all("default" in t for t in types if t.get("type") == "enum")


def test_optional_fields_default_to_null_so_that_the_schema_can_grow() -> None:
    for topic in TOPICS:
        for field in fields(topic.schema).values():
            if isinstance(field["type"], list):
                assert field["type"][0] == "null"


def test_positions_match_the_chunks_partitions_and_outlive_producer_ids() -> None:
    assert POSITIONS.partitions == CHUNK_PARTITIONS
    assert POSITIONS.cleanup == "compact"
    assert int(POSITIONS.config["delete.retention.ms"]) >= DAY_MS
