"""The OpenAPI document of the replay service."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from k2common.http.negotiation import MEDIA_TYPES
from k2common.http.openapi import Operation, Parameter, document, many, one, reference
from k2common.http.row_schemas import object_schema

from replay_service.request import ReplayRequest
from replay_service.routes import DEFAULT_LIMIT, MAX_LIMIT

DESCRIPTION = (
    "Streams the rows of a range in the one total order, as of one version, with a digest over them. A "
    "replay can be resumed after each checkpoint."
)
TEXT = {"type": "string"}
SESSION_ID = Parameter(
    name="session_id",
    description="The replay's id, as its creation gave it.",
    schema={"type": "string", "minLength": 1, "maxLength": 64},
    example="01JD3V9Q6T5W8ZK2M4N7P0R1S3",
    place="path",
)
CURSOR = Parameter(
    name="cursor",
    description="The `cursor` of a checkpoint; the stream goes on after it.",
    schema={"type": "string", "minLength": 1, "maxLength": 4_000, "format": "k2-page-token"},
)
PAGE = (
    Parameter(
        name="limit",
        description=f"Entries of a page; {DEFAULT_LIMIT} without it.",
        schema={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
        example=DEFAULT_LIMIT,
    ),
    Parameter(
        name="page_token",
        description="The `next_page_token` of the page before.",
        schema={"type": "string", "format": "k2-page-token"},
    ),
)
REQUEST = {
    name: value
    for name, value in ReplayRequest.model_json_schema().items()
    if name not in ("title", "description")
}
SCHEMAS: Mapping[str, Any] = {
    "NewReplay": REQUEST,
    "Replay": object_schema(
        {
            **dict.fromkeys(("session_id", "state", "version", "created_at"), TEXT),
            "request": {"type": "object", "description": "As it was posted, with its defaults."},
        }
    ),
}
READING = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.GATEWAY_TIMEOUT)
SESSION = one(reference("Replay"))
OPERATIONS = (
    Operation(
        method="post",
        path="/v1/replays",
        summary="Create a replay on one version: 201 and its address.",
        body={"application/json": reference("NewReplay")},
        answers={201: SESSION},
        problems=READING,
    ),
    Operation(
        method="get",
        path="/v1/replays",
        summary="All replays, newest first.",
        parameters=PAGE,
        answers={200: many(reference("Replay"))},
    ),
    Operation(
        method="get",
        path="/v1/replays/{session_id}",
        summary="One replay.",
        parameters=(SESSION_ID,),
        answers={200: SESSION},
        problems=(404,),
    ),
    Operation(
        method="delete",
        path="/v1/replays/{session_id}",
        summary="Forget a replay.",
        parameters=(SESSION_ID,),
        answers={204: {}},
        problems=(404,),
    ),
    Operation(
        method="get",
        path="/v1/replays/{session_id}/stream",
        summary="The rows, one JSON object a line, with checkpoints and their digests in between.",
        parameters=(SESSION_ID, CURSOR),
        answers={200: {MEDIA_TYPES["ndjson"]: {"type": "string"}}},
        problems=READING,
    ),
)


def api() -> Mapping[str, Any]:
    """Return the document."""
    return document(
        title="K2 replay-service",
        description=DESCRIPTION,
        operations=OPERATIONS,
        schemas=SCHEMAS,
        writes="read",
    )
