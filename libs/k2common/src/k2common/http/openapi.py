"""The OpenAPI document (3.1) of plain Starlette endpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from k2common.http.problems import MEDIA_TYPE
from k2common.http.viewer import DOCUMENT_PATH, PAGE_PATH, START_PATH

JSON = "application/json"
EVERYWHERE = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""What every endpoint may answer: parameters at fault, keys, limits, a dependency that is unavailable."""

WITH_BODY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
"""What every endpoint with a body may answer besides."""

SECURITY_SCHEMES: Mapping[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key as `Authorization: Bearer <key>`; needed where a keys file is set.",
    },
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same key in a header of its own.",
    },
}
TEXT_PLAIN: Mapping[str, Any] = {"text/plain": {"type": "string"}}
HTML: Mapping[str, Any] = {"text/html": {"type": "string"}}

PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "description": "RFC 9457, with a stable code and each fault by name.",
    "required": ["type", "title", "status", "detail", "instance", "code", "request_id", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {
            "type": ["string", "null"],
            "description": "The path; null of a request whose head cannot be parsed.",
        },
        "code": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$"},
        "request_id": {"type": ["string", "null"]},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["code", "message", "value"],
                "properties": {
                    "parameter": {"type": "string"},
                    "pointer": {"type": "string"},
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "value": {"type": ["string", "null"]},
                },
            },
        },
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter with its sentence, bound and example; `place` is query, path or header."""

    name: str
    description: str
    schema: Mapping[str, Any]
    example: Any = None
    place: str = "query"
    required: bool = False

    def to_json(self) -> Mapping[str, Any]:
        """As it stands in an operation."""
        text = {
            "name": self.name,
            "in": self.place,
            "description": self.description,
            "required": self.required or self.place == "path",
            "schema": self.schema,
        }
        return text if self.example is None else {**text, "example": self.example}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path.

    `answers` has what success looks like by status: media type to schema. `problems` are the statuses beyond
    those that every endpoint has. An `is_open` operation needs no key and has no limit.
    """

    method: str
    path: str
    summary: str
    answers: Mapping[int, Mapping[str, Any]]
    parameters: Sequence[Parameter] = ()
    problems: Sequence[int] = ()
    body: Mapping[str, Any] = field(default_factory=dict)
    is_open: bool = False

    def to_json(self, writes: str = "admin") -> Mapping[str, Any]:
        """Return the operation as it stands under its path; `writes` is the scope of all but reading."""
        found = {
            status: {media: {"schema": s} for media, s in a.items()} for status, a in self.answers.items()
        }
        problem = {MEDIA_TYPE: {"schema": reference("Problem")}}
        found |= {int(status): problem for status in self._problems() if status not in found}
        text: dict[str, Any] = {
            "summary": self.summary,
            "operationId": operation_id(self.method, self.path),
            "parameters": [parameter.to_json() for parameter in self.parameters],
            "responses": {
                str(status): {"description": HTTPStatus(status).phrase, **_content(content)}
                for status, content in sorted(found.items())
            },
            "security": [] if self.is_open else security_of(self.method, writes),
        }
        if self.body:
            content = {media: {"schema": schema} for media, schema in self.body.items()}
            text["requestBody"] = {"required": True, "content": content}
        return text

    def _problems(self) -> Sequence[int]:
        if self.is_open:
            return self.problems
        return (*EVERYWHERE, *(WITH_BODY if self.body else ()), *self.problems)


def operation_id(method: str, path: str) -> str:
    """Return an identifier that generated clients can use as a function's name, one per method and path."""
    words = path.removeprefix("/v1").replace("{", "").replace("}", "").replace("-", "_").replace(".", "_")
    return "_".join([method, *(word for word in words.split("/") if word)])


def security_of(method: str, writes: str) -> Sequence[Mapping[str, Any]]:
    """Return the security requirement of an operation: either scheme, with the scope that the key needs."""
    scope = "read" if method == "get" else writes
    return [{name: [scope]} for name in SECURITY_SCHEMES]


def _content(content: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"content": content} if content else {}


def reference(name: str) -> Mapping[str, Any]:
    """The schema of this name among the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def one(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `envelope.single` answers, of this schema."""
    properties = {"data": schema, "meta": {"type": "object"}}
    return {JSON: {"type": "object", "required": ["data", "meta"], "properties": properties}}


def many(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `envelope.listing` answers, of this schema."""
    properties = {
        "data": {"type": "array", "items": schema},
        "next_page_token": {"type": ["string", "null"]},
        "meta": {"type": "object"},
    }
    return {JSON: {"type": "object", "required": list(properties), "properties": properties}}


def document(
    *,
    title: str,
    description: str,
    operations: Sequence[Operation],
    schemas: Mapping[str, Any],
    writes: str = "admin",
) -> Mapping[str, Any]:
    """Return the document of all operations and of the probes; `writes` is the scope of all but reading."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in (*operations, *PROBES):
        paths.setdefault(operation.path, {})[operation.method] = operation.to_json(writes)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "description": description},
        "paths": paths,
        "components": {"schemas": {"Problem": PROBLEM, **schemas}, "securitySchemes": SECURITY_SCHEMES},
    }


_STARTING = (HTTPStatus.SERVICE_UNAVAILABLE,)
_START = {
    "type": "object",
    "required": ["service", "description", "links"],
    "properties": {
        "service": {"type": "string"},
        "description": {"type": "string"},
        "links": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
_READY = {
    "type": "object",
    "required": ["ready", "blocked_by"],
    "properties": {
        "ready": {"type": "boolean"},
        "blocked_by": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
PROBES = (
    Operation(
        method="get",
        path=START_PATH,
        summary="What this service is, with links.",
        answers={200: {**one(_START), **HTML}},
        problems=_STARTING,
        is_open=True,
    ),
    Operation(
        method="get",
        path=DOCUMENT_PATH,
        summary="This document.",
        answers={200: {JSON: {"type": "object"}}},
        problems=_STARTING,
        is_open=True,
    ),
    Operation(
        method="get",
        path=PAGE_PATH,
        summary="This document as a page.",
        answers={200: HTML},
        problems=_STARTING,
        is_open=True,
    ),
    Operation(
        method="get",
        path="/livez",
        summary="Whether the process lives; it does no I/O.",
        answers={200: TEXT_PLAIN},
        is_open=True,
    ),
    Operation(
        method="get",
        path="/readyz",
        summary="Whether the service can work, and what it waits for.",
        answers={200: {JSON: _READY}, 503: {JSON: _READY}},
        is_open=True,
    ),
    Operation(
        method="get",
        path="/metrics",
        summary="Metrics for Prometheus.",
        answers={200: TEXT_PLAIN},
        is_open=True,
    ),
)
"""What every service has beside its own operations; none of it needs a key."""
