"""A new optional field reaches the table as a column without a restart; nothing else changes a table."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from iceberg_sink import app as sink
from iceberg_sink.settings import IcebergSinkSettings
from k2common.errors import SetupError
from k2common.iceberg.catalogs.catalog import load_table, open_catalog
from k2common.iceberg.reading.reader import VersionReader
from k2common.iceberg.reading.rows import read_rows
from k2common.iceberg.versions.documents import head_version
from k2common.registry.client import SchemaRegistry
from k2common.schemas.datasets import TRADES
from k2common.settings.load import load
from k2common.versions.version import Version

from tests.integration.sink.conftest import running
from tests.integration.sink.messages import SCHEMA, message, write
from tests.integration.sink.test_dead_letters import listed, rows

LIMIT_SECONDS = 90
WIDEST: Mapping[str, Any] = {
    **SCHEMA,
    "fields": [
        *SCHEMA["fields"],
        {"name": "note", "type": ["null", "string"], "default": None, "doc": "A note."},
        {"name": "weight", "type": ["null", "long"], "default": None, "doc": "A weight."},
    ],
}


async def head_with(settings: IcebergSinkSettings, upload_id: str, lines: list[int]) -> Version:
    """The head as soon as the table has these lines of the upload."""
    while sorted(row["line"] for row in rows(settings, TRADES.table, upload_id=upload_id)) != lines:  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.1)
    head = head_version(load_table(open_catalog(settings.iceberg), TRADES.table))
    assert head is not None
    return head


async def test_a_new_optional_field_becomes_a_column_while_the_sink_runs(environ: Mapping[str, str]) -> None:
    settings = load(IcebergSinkSettings, environ)
    registry = SchemaRegistry(settings.registry)
    before, after, stranger = "EVOLVING1", "EVOLVING2", "EVOLVING3"
    known = await registry.ensure(TRADES.topic.subject, SCHEMA)
    async with asyncio.timeout(LIMIT_SECONDS), running(sink.build, settings) as client:
        await write(settings.kafka, settings.registry, before, [message(before, 1, schema_id=known)])
        old = await head_with(settings, before, [1])

        wide = await registry.ensure(TRADES.topic.subject, WIDEST)
        values = [
            message(after, 1, schema_id=wide, schema=WIDEST, note="hello", weight=7),
            message(after, 2, schema_id=known),
        ]
        await write(settings.kafka, settings.registry, after, values)
        new = await head_with(settings, after, [1, 2])
        found = {
            row["line"]: (row["note"], row["weight"]) for row in rows(settings, TRADES.table, upload_id=after)
        }
        assert found == {1: ("hello", 7), 2: (None, None)}
        assert new.schema_id > old.schema_id

        # A version of before, read from today's files, has nothing in the new column.
        catalog = open_catalog(settings.iceberg)
        reader = VersionReader(catalog)
        reader.refresh(TRADES.table)
        then = read_rows(catalog, reader.plan(reader.at(TRADES.table, old.number)), ("upload_id", "weight"))
        assert before in then["upload_id"].to_pylist()
        assert "weight" not in then.column_names or set(then["weight"].to_pylist()) == {None}

        # A schema of another subject adds no column, whatever it holds.
        other = {
            **WIDEST,
            "fields": [*WIDEST["fields"], {"name": "x", "type": ["null", "long"], "default": None}],
        }
        foreign = await registry.ensure("stranger-value", other)
        await write(
            settings.kafka,
            settings.registry,
            stranger,
            [message(stranger, 1, schema_id=foreign, schema=other)],
        )
        (letter,) = await listed(client, upload_id=stranger)
        assert "not one of market.trades.v1-value" in letter["reason"]
        assert "x" not in load_table(catalog, TRADES.table).schema().column_names


async def test_the_registry_refuses_what_old_records_could_not_be_read_with(
    environ: Mapping[str, str],
) -> None:
    settings = load(IcebergSinkSettings, environ)
    needed = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "needed", "type": "long"}]}
    with pytest.raises(SetupError, match="refuses the schema"):
        await SchemaRegistry(settings.registry).ensure(TRADES.topic.subject, needed)
