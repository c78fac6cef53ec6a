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
LARGEST_ID = 2**31 - 1
"""Registries count with signed 32 bits; asked for a larger id some answer as if they were failing."""
ABSENT = frozenset({httpx.codes.BAD_REQUEST, httpx.codes.NOT_FOUND, httpx.codes.UNPROCESSABLE_ENTITY})
"""Answers that say that there is no such schema, and not that the registry is unavailable."""
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

    async def require_compatibility(self, subject: str) -> None:
        """Make BACKWARD the rule of a subject that is there; the registry's global one stays as it is.

        Raises TransientError when the registry is unavailable.
        """
        async with self._reached():
            await self._client.update_compatibility(COMPATIBILITY, subject)

    async def ensure(self, subject: str, schema: Mapping[str, Any]) -> int:
        """Register `schema` under `subject` unless it is there, and return its id.

        Raises SetupError when the schema is invalid or breaks the subject's compatibility, TransientError
        when the registry is unavailable.
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

        Raises RecordError when the registry knows no such id or its schema is none of Avro, TransientError
        when it is unavailable.
        """
        if schema_id not in self._by_id:
            self._by_id[schema_id] = await self._fetched(schema_id)
        return self._by_id[schema_id]

    async def _fetched(self, schema_id: int) -> Mapping[str, Any]:
        absent = RecordError(f"the registry has no schema {schema_id}")
        if not 0 < schema_id <= LARGEST_ID:
            raise absent
        async with self._reached():
            try:
                found = await self._client.get_by_id(schema_id)
            except ClientError as error:
                if error.http_code in ABSENT:
                    raise absent from error
                raise
            except (httpx.HTTPError, json.JSONDecodeError):
                raise
            # The client parses what it is given: a schema of another kind, or one that is none at all.
            except Exception as error:
                raise RecordError(f"schema {schema_id} is none of Avro: {error}") from error
        if found is None:
            raise absent
        if not isinstance(found.raw_schema, dict):
            raise RecordError(f"schema {schema_id} is no record")
        return found.raw_schema

    async def subjects(self, schema_id: int) -> frozenset[str]:
        """The subjects under which the schema is registered.

        Raises TransientError when the registry is unavailable.
        """
        async with self._reached():
            found = await self._client.get_schema_subject_versions(schema_id)
        return frozenset(entry.subject for entry in found or ())

    @asynccontextmanager
    async def _reached(self) -> AsyncIterator[None]:
        try:
            yield
        # What is no JSON comes from something in front of the registry.
        except (httpx.TransportError, ClientError, json.JSONDecodeError) as error:
            raise TransientError(f"the schema registry at {self._url} does not answer: {error}") from error
