"""A schema that there is not, or of another kind, is the message's fault; a failing registry is an outage."""

import json
from typing import Any

import httpx
import pytest
from k2common.errors import RecordError, TransientError
from k2common.registry.client import SchemaRegistry
from k2common.registry.codec import MessageCodec
from k2common.settings.registry import RegistrySettings

SCHEMA = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}
FOREIGN = {
    "type": "record",
    "name": "Stranger",
    "fields": [{"name": "a", "type": {"type": "map", "values": "bytes"}}],
}


def registry_that(answer: httpx.Response | Exception, monkeypatch: pytest.MonkeyPatch) -> SchemaRegistry:
    registry = SchemaRegistry(RegistrySettings(url="http://registry.example"))

    async def answered(*_: Any, **__: Any) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(registry._client, "request", answered)  # noqa: SLF001
    return registry


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, json={"error_code": 40403}),
        httpx.Response(400, json={"error_code": 400}),
        httpx.Response(422, json={"error_code": 42202}),
        httpx.Response(200, json={"schema": "syntax = 'proto3';", "schemaType": "PROTOBUF"}),
        httpx.Response(200, json={"schema": '{"type": "no such type"}'}),
        httpx.Response(200, json={"schema": '"string"'}),
        httpx.Response(200, json={"schema": '{"type": "object"}', "schemaType": "JSON"}),
        httpx.Response(200, json={"odd": 1}),
    ],
)
async def test_no_such_schema_is_the_messages_fault(
    answer: httpx.Response, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = MessageCodec(registry_that(answer, monkeypatch), schema=SCHEMA, schema_id=1)
    with pytest.raises(RecordError):
        await codec.decode(b"\x00\x00\x00\x00\x09\x02")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500, json={"error_code": 500}),
        httpx.Response(503, json={}),
        httpx.Response(401, json={}),
        httpx.Response(429, json={}),
        httpx.Response(200, text="<html>a proxy</html>"),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("late"),
    ],
)
async def test_an_outage_is_never_a_messages_fault(
    answer: httpx.Response | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = MessageCodec(registry_that(answer, monkeypatch), schema=SCHEMA, schema_id=1)
    with pytest.raises(TransientError):
        await codec.decode(b"\x00\x00\x00\x00\x09\x02")


@pytest.mark.parametrize("schema_id", [0, 2**31, 2**32 - 1])
async def test_an_id_that_cannot_be_is_not_asked_for(schema_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registry_that(httpx.ConnectError("nobody should ask"), monkeypatch)
    with pytest.raises(RecordError):
        await registry.schema(schema_id)


async def test_a_foreign_schema_is_the_messages_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registry_that(httpx.Response(200, json={"schema": json.dumps(FOREIGN)}), monkeypatch)
    codec = MessageCodec(registry, schema=SCHEMA, schema_id=1)
    foreign = MessageCodec(registry, schema=FOREIGN, schema_id=9).encode({"a": {"b": b"c"}})
    with pytest.raises(RecordError):
        await codec.decode(foreign)
