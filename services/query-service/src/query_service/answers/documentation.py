"""What the OpenAPI document says of answers: their shapes, and which problems an endpoint may give."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

from k2common.http.negotiation import MEDIA_TYPES
from k2common.http.openapi import EVERYWHERE, WITH_BODY, reference
from k2common.http.problems import MEDIA_TYPE
from k2common.http.row_schemas import object_schema

Answers: TypeAlias = dict[int | str, dict[str, Any]]

BINARY: Mapping[str, Any] = {"type": "string", "format": "binary"}
READING = (
    HTTPStatus.NOT_FOUND,
    HTTPStatus.GONE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.GATEWAY_TIMEOUT,
)
"""What reading a version may end in: no such version, purged, too large, too slow."""


def problems(*statuses: int) -> Answers:
    """The problem documents that an endpoint gives beside those that all give."""
    content = {MEDIA_TYPE: {"schema": reference("Problem")}}
    return {
        int(status): {"description": HTTPStatus(status).phrase, "content": content}
        for status in (*EVERYWHERE, *statuses)
    }


def answers(schema: Mapping[str, Any], *statuses: int) -> Answers:
    """A JSON answer of this schema, and the problems of reading a version."""
    good = {"description": "OK", "content": {MEDIA_TYPES["json"]: {"schema": schema}}}
    return {200: good, **problems(*READING, *statuses)}


NOT_MODIFIED: Answers = {304: {"description": "The answer of If-None-Match holds."}}


def rows_answers(name: str) -> Answers:
    """Return the answers of a GET that gives rows of the component `name` in any format."""
    return {200: _rows(name), **NOT_MODIFIED, **problems(*READING)}


def body_answers(name: str) -> Answers:
    """Return the answers of a POST that gives rows of the component `name` in any format."""
    return {200: _rows(name), **problems(*READING, *WITH_BODY)}


def _rows(name: str) -> dict[str, Any]:
    streams = {media: {"schema": BINARY} for form, media in MEDIA_TYPES.items() if form != "json"}
    content = {MEDIA_TYPES["json"]: {"schema": page_of(name)}, **streams}
    return {"description": "OK", "content": content}


def page_of(name: str) -> Mapping[str, Any]:
    """Return the schema of a page of this component."""
    properties: dict[str, Mapping[str, Any]] = {
        "data": {"type": "array", "items": reference(name)},
        "next_page_token": {"type": ["string", "null"]},
        "meta": reference("Meta"),
    }
    return object_schema(properties)


def single_of(name: str, meta: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """Return the schema of one resource of this component."""
    return object_schema({"data": reference(name), "meta": reference("Meta") if meta is None else meta})
