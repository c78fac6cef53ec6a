"""Control messages come back as they were sent, also those of an older schema, and rubbish is named."""

from datetime import UTC, datetime
from typing import Any

import pytest
from k2common.errors import RecordError
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.schemas.datasets import COMMITS, Topic
from k2common.settings.registry import RegistrySettings
from k2local.stack import LocalStack


@pytest.fixture
def registry(stack: LocalStack) -> SchemaRegistry:
    return SchemaRegistry(RegistrySettings(url=stack.settings.registry_url))


def commit() -> dict[str, Any]:
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    where = {"snapshot_id": 5, "metadata_location": "file:///x", "document": "{}", "rows": 9}
    return {"table": "market.trades", "number": 7, "committed_at": at, "rows_removed": None, **where}


async def test_a_message_comes_back_as_it_was_sent(registry: SchemaRegistry) -> None:
    codec = await MessageCodec.open(registry, COMMITS)
    assert await codec.decode(codec.encode(commit())) == commit()


async def test_an_older_writers_message_gets_the_defaults(registry: SchemaRegistry) -> None:
    older = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}
    newer = {**older, "fields": [*older["fields"], {"name": "b", "type": "long", "default": 3}]}
    topic = Topic(name="test.codec.v1", schema="none", partitions=1)
    ids = [await registry.ensure(topic.subject, schema) for schema in (older, newer)]
    old, new = (
        MessageCodec(registry, schema=schema, schema_id=schema_id)
        for schema, schema_id in zip((older, newer), ids, strict=True)
    )
    assert await new.decode(old.encode({"a": 1})) == {"a": 1, "b": 3}


@pytest.mark.parametrize("cut", ["none", "magic", "short", "long"])
async def test_rubbish_is_a_record_error(registry: SchemaRegistry, cut: str) -> None:
    codec = await MessageCodec.open(registry, COMMITS)
    good = codec.encode(commit())
    bad = {"none": None, "magic": b"\x01" + good[1:], "short": good[:-1], "long": good + b"\x00"}[cut]
    with pytest.raises(RecordError):
        await codec.decode(bad)
