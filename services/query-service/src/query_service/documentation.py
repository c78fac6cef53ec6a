"""What the OpenAPI document says of answers: their shapes, and which problems an endpoint may give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias

from k2common.http.negotiation import MEDIA_TYPES
from k2common.http.openapi import PROBLEM
from k2common.http.problems import MEDIA_TYPE

Answers: TypeAlias = dict[int | str, dict[str, Any]]

META: Mapping[str, Any] = {
    "type": "object",
    "description": "What is known about the answer: its version above all.",
    "required": ["request_id", "version", "as_of", "warnings", "completeness", "timings"],
    "properties": {
        "request_id": {"type": ["string", "null"]},
        "version": {"type": ["string", "null"], "description": "The token; ask again with as_of=<token>."},
        "as_of": {"type": ["string", "null"], "description": "As it was asked."},
        "row_count": {"type": "integer"},
        "unresolved": {"type": "array", "items": {"type": "string"}},
        "warnings": {"type": "array", "items": {"type": "string"}},
        "completeness": {
            "type": ["object", "null"],
            "properties": {"complete": {"type": "boolean"}, "uploads_loading": {"type": "integer"}},
        },
        "timings": {"type": "object", "additionalProperties": {"type": "number"}},
    },
}
PAGE: Mapping[str, Any] = {
    "type": "object",
    "required": ["data", "next_page_token", "meta"],
    "properties": {
        "data": {"type": "array", "items": {"type": "object"}},
        "next_page_token": {"type": ["string", "null"]},
        "meta": META,
    },
}
SINGLE: Mapping[str, Any] = {
    "type": "object",
    "required": ["data", "meta"],
    "properties": {"data": {"type": "object"}, "meta": META},
}
BINARY: Mapping[str, Any] = {"type": "string", "format": "binary"}
EVERYWHERE = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
READING = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.GONE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.GATEWAY_TIMEOUT,
)
"""What reading a version may end in: no such version, purged, too large, too slow."""


def problems(*statuses: int) -> Answers:
    """The problem documents that an endpoint gives beside those that all give."""
    content = {MEDIA_TYPE: {"schema": PROBLEM}}
    return {
        int(status): {"description": HTTPStatus(status).phrase, "content": content}
        for status in (*EVERYWHERE, *statuses)
    }


def answers(schema: Mapping[str, Any], *statuses: int) -> Answers:
    """A JSON answer of this schema, and the problems of reading a version."""
    good = {"description": "OK", "content": {MEDIA_TYPES["json"]: {"schema": schema}}}
    return {200: good, **problems(*READING, *statuses)}


def _rows(forms: Sequence[str]) -> Mapping[str, Any]:
    streams = {MEDIA_TYPES[name]: {"schema": BINARY} for name in forms if name != "json"}
    return {"description": "OK", "content": {MEDIA_TYPES["json"]: {"schema": PAGE}, **streams}}


NOT_MODIFIED: Answers = {304: {"description": "The answer of If-None-Match holds."}}
ROWS_ANSWERS: Answers = {200: dict(_rows(tuple(MEDIA_TYPES))), **NOT_MODIFIED, **problems(*READING)}
BODY_ANSWERS: Answers = {
    200: dict(_rows(tuple(MEDIA_TYPES))),
    **problems(*READING, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
}
