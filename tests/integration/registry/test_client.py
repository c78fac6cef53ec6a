"""The registry keeps subjects compatible, and its absence is an outage, not a verdict."""

import pytest
from k2common.errors import RecordError, SetupError, TransientError
from k2common.registry.client import SchemaRegistry
from k2common.schemas.datasets import TOPICS, avro_schema
from k2common.settings.registry import RegistrySettings
from k2local.stack import LocalStack


def record(*fields: dict[str, object]) -> dict[str, object]:
    return {"type": "record", "name": "Thing", "namespace": "k2.test", "fields": list(fields)}


X = {"name": "x", "type": "long"}


@pytest.fixture
async def registry(stack: LocalStack) -> SchemaRegistry:
    return SchemaRegistry(RegistrySettings(url=stack.settings.registry_url))


async def test_every_schema_of_the_table_registers_and_keeps_its_id(registry: SchemaRegistry) -> None:
    for topic in TOPICS:
        schema = avro_schema(topic.schema)
        given = await registry.ensure(topic.subject, schema)
        assert await registry.ensure(topic.subject, dict(reversed(schema.items()))) == given
        assert (await registry.schema(given))["name"] == schema["name"]


async def test_a_new_optional_field_is_taken_and_a_new_required_one_refused(registry: SchemaRegistry) -> None:
    first = await registry.ensure("grown-value", record(X))
    await registry.require_compatibility("grown-value")
    optional = {"name": "y", "type": ["null", "long"], "default": None}
    assert await registry.ensure("grown-value", record(X, optional)) != first
    with pytest.raises(SetupError, match="grown-value: the registry refuses"):
        await registry.ensure("grown-value", record(X, optional, {"name": "z", "type": "long"}))


async def test_an_invalid_schema_is_refused(registry: SchemaRegistry) -> None:
    with pytest.raises(SetupError, match="invalid-value: not an Avro schema"):
        await registry.ensure("invalid-value", {"type": "no such type"})


async def test_an_unknown_id_is_the_records_fault(registry: SchemaRegistry) -> None:
    with pytest.raises(RecordError, match="no schema 999999"):
        await registry.schema(999_999)


async def test_an_absent_registry_is_transient() -> None:
    away = SchemaRegistry(RegistrySettings(url="http://127.0.0.1:1"))
    with pytest.raises(TransientError):
        await away.schema(1)
    with pytest.raises(TransientError):
        await away.ensure("x-value", record(X))
