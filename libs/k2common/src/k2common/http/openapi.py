"""The OpenAPI document (3.1) of plain Starlette endpoints, and a page that shows any such document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from k2common.http.problems import MEDIA_TYPE

DOCUMENT_PATH = "/openapi.json"
PAGE_PATH = "/docs"
JSON = "application/json"
EVERYWHERE = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""What every endpoint may answer: parameters at fault, keys, limits, a neighbour that is away."""

PROBLEM: Mapping[str, Any] = {
    "type": "object",
    "description": "RFC 9457, with a stable code and each fault by name.",
    "required": ["type", "title", "status", "detail", "instance", "code", "request_id", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
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

    def to_json(self) -> Mapping[str, Any]:
        """As it stands in an operation."""
        text = {
            "name": self.name,
            "in": self.place,
            "description": self.description,
            "required": self.place == "path",
            "schema": self.schema,
        }
        return text if self.example is None else {**text, "example": self.example}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path.

    `answers` has what success looks like by status: media type to schema. `problems` are the statuses beyond
    those that every endpoint has.
    """

    method: str
    path: str
    summary: str
    answers: Mapping[int, Mapping[str, Any]]
    parameters: Sequence[Parameter] = ()
    problems: Sequence[int] = ()
    body: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> Mapping[str, Any]:
        """As it stands under its path."""
        problem = {MEDIA_TYPE: {"schema": reference("Problem")}}
        found = {
            status: {media: {"schema": s} for media, s in a.items()} for status, a in self.answers.items()
        }
        found |= {int(status): problem for status in (*EVERYWHERE, *self.problems)}
        text: dict[str, Any] = {
            "summary": self.summary,
            "operationId": f"{self.method} {self.path}".replace("/v1/", "").replace("/", " "),
            "parameters": [parameter.to_json() for parameter in self.parameters],
            "responses": {
                str(status): {"description": HTTPStatus(status).phrase, "content": content}
                for status, content in sorted(found.items())
            },
        }
        if self.body:
            content = {media: {"schema": schema} for media, schema in self.body.items()}
            text["requestBody"] = {"required": True, "content": content}
        return text


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
    *, title: str, description: str, operations: Sequence[Operation], schemas: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The document of all operations."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = operation.to_json()
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "description": description},
        "paths": paths,
        "components": {"schemas": {"Problem": PROBLEM, **schemas}},
    }


def documented(make: Callable[[], Mapping[str, Any]]) -> list[Route]:
    """/openapi.json and /docs for what `make` gives."""

    async def text(_: Request) -> Response:
        return JSONResponse(make())

    async def page(_: Request) -> Response:
        return HTMLResponse(_page(make()))

    return [Route(DOCUMENT_PATH, text), Route(PAGE_PATH, page)]


def _page(text: Mapping[str, Any]) -> str:
    info = text["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<style>body{font:15px sans-serif;max-width:60em;margin:2em auto}"
        "td,th{text-align:left;vertical-align:top;padding:.2em .8em .2em 0}code{background:#eee}</style>",
        f"<title>{escape(info['title'])}</title><h1>{escape(info['title'])}</h1>",
        f"<p>{escape(info.get('description', ''))} <a href={DOCUMENT_PATH}>OpenAPI document</a></p>",
    ]
    for path, methods in text["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(operation.get('summary', ''))}</p>")
            parts += _parameters(operation.get("parameters", ()))
            statuses = ", ".join(operation["responses"])
            parts.append(f"<p>Answers: {escape(statuses)}</p>")
    return "\n".join(parts)


def _parameters(parameters: Sequence[Mapping[str, Any]]) -> list[str]:
    if not parameters:
        return []
    rows = [
        f"<tr><td><code>{escape(p['name'])}</code><td>{escape(p['in'])}<td>{escape(p.get('description', ''))}"
        f"<td>{escape(str(p.get('example', '')))}</tr>"
        for p in parameters
    ]
    return ["<table><tr><th>parameter<th>in<th><th>example</tr>", *rows, "</table>"]
