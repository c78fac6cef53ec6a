"""Single control messages to and from the registry's framing; rows take the columnar way instead."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Self

import fastavro

from k2common.errors import RecordError
from k2common.registry.client import SchemaRegistry
from k2common.schemas.datasets import Topic, avro_schema

FRAME_BYTES = 5


class MessageCodec:
    """Encodes with the code's own schema of a topic, decodes what any version of it wrote.

    Timestamps are aware datetimes, dates are dates, decimals are Decimals. `decode` gives the fields of the
    code's schema, later ones with their defaults.
    """

    def __init__(self, registry: SchemaRegistry, *, schema: Mapping[str, Any], schema_id: int) -> None:
        self._registry = registry
        self._schema = fastavro.parse_schema(dict(schema))
        self._frame = b"\x00" + schema_id.to_bytes(4, "big")
        self._writers: dict[int, Any] = {schema_id: self._schema}

    @classmethod
    async def open(cls, registry: SchemaRegistry, topic: Topic) -> Self:
        """The codec of `topic`, whose schema is registered if it is not there yet.

        Raises SetupError and TransientError as `SchemaRegistry.ensure`.
        """
        schema = avro_schema(topic.schema)
        return cls(registry, schema=schema, schema_id=await registry.ensure(topic.subject, schema))

    def encode(self, message: Mapping[str, Any]) -> bytes:
        """The framed message.

        Raises ValueError when it does not fit the schema.
        """
        out = io.BytesIO()
        out.write(self._frame)
        fastavro.schemaless_writer(out, self._schema, dict(message))
        return out.getvalue()

    async def decode(self, value: bytes | None) -> Mapping[str, Any]:
        """The message that was framed.

        Raises RecordError for bytes that are no message, whatever the Avro library says of them or of the
        schema that they name; TransientError when the registry is unavailable and the writer's schema is
        not known yet.
        """
        if value is None or len(value) < FRAME_BYTES or value[0]:
            raise RecordError("the value does not begin with the registry's five bytes")
        writer = await self._writer(int.from_bytes(value[1:FRAME_BYTES], "big"))
        stream = io.BytesIO(value[FRAME_BYTES:])
        try:
            message: Any = fastavro.schemaless_reader(stream, writer, self._schema)
        # What fastavro says of bytes or schemas that it was not made for has no common type.
        except Exception as error:
            raise RecordError(f"the value is not of its schema: {type(error).__name__}: {error}") from error
        if stream.read(1):
            raise RecordError("bytes follow the record")
        fields: Mapping[str, Any] = message
        return fields

    async def _writer(self, schema_id: int) -> Any:
        if schema_id not in self._writers:
            schema = await self._registry.schema(schema_id)
            try:
                self._writers[schema_id] = fastavro.parse_schema(dict(schema))
            # A schema of another kind than Avro fails in many ways.
            except Exception as error:
                raise RecordError(f"schema {schema_id} is none of Avro: {error}") from error
        return self._writers[schema_id]
