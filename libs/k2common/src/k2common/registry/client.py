"""Schemas by subject and by id; an outage is never taken for an unknown or a bad schema."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastavro.schema import SchemaParseException, UnknownType
from schema_registry.client import AsyncSchemaRegistryClient
from schema_registry.client.errors import ClientError

from k2common.errors import RecordError, SetupError, TransientError
from k2common.settings.loopback import is_loopback
from k2common.settings.registry import RegistrySettings

COMPATIBILITY = "BACKWARD"
REFUSED = frozenset({httpx.codes.CONFLICT, httpx.codes.UNPROCESSABLE_ENTITY})


def canonical_json(schema: Mapping[str, Any]) -> str:
    """One text per schema; attributes in another order would give another id."""
    return json.dumps(schema, sort_keys=True, separators=(",", ":"))


class SchemaRegistry:
    """A client with a cache of schemas by id, which never change."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._url = settings.url
        self._client = AsyncSchemaRegistryClient(
            settings.url, timeout=httpx.Timeout(settings.timeout_seconds)
        )
        if is_loopback(settings.url):
            self._client.client_kwargs["trust_env"] = False
        self._by_id: dict[int, Mapping[str, Any]] = {}

    async def require_compatibility(self) -> None:
        """Make BACKWARD the registry's rule for subjects that have none of their own.

        Raises TransientError when the registry is away.
        """
        async with self._reached():
            await self._client.update_compatibility(COMPATIBILITY)

    async def ensure(self, subject: str, schema: Mapping[str, Any]) -> int:
        """Register `schema` under `subject` unless it is there, and return its id.

        Raises SetupError when the schema is invalid or breaks the subject's compatibility, TransientError
        when the registry is away.
        """
        async with self._reached():
            try:
                return await self._client.register(subject, canonical_json(schema))
            except (SchemaParseException, UnknownType) as error:
                raise SetupError(f"{subject}: not an Avro schema: {error}") from error
            except ClientError as error:
                if error.http_code in REFUSED:
                    raise SetupError(f"{subject}: the registry refuses the schema: {error}") from error
                raise

    async def schema(self, schema_id: int) -> Mapping[str, Any]:
        """The writer's schema with this id.

        Raises RecordError when the registry knows no such id, TransientError when it is away.
        """
        if schema_id not in self._by_id:
            async with self._reached():
                found = await self._client.get_by_id(schema_id)
            if found is None:
                raise RecordError(f"the registry has no schema {schema_id}")
            self._by_id[schema_id] = found.raw_schema
        return self._by_id[schema_id]

    async def subjects(self, schema_id: int) -> frozenset[str]:
        """The subjects under which the schema is registered.

        Raises TransientError when the registry is away.
        """
        async with self._reached():
            found = await self._client.get_schema_subject_versions(schema_id)
        return frozenset(entry.subject for entry in found or ())

    @asynccontextmanager
    async def _reached(self) -> AsyncIterator[None]:
        try:
            yield
        except (httpx.TransportError, ClientError) as error:
            raise TransientError(f"the schema registry at {self._url} does not answer: {error}") from error
