"""The OpenAPI document of the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k2common.http.openapi import Operation, Parameter, document, many, one, reference
from k2common.schemas.datasets import MARKET_DATASETS

from ingest_gateway.body.decompression import UNPACKERS
from ingest_gateway.http.routes import DEFAULT_LIMIT, MAX_LIMIT, MAX_WAIT_SECONDS, REJECT_FORMATS
from ingest_gateway.receipts.receipts import STATES
from ingest_gateway.uploads.requests import ASSET_CLASSES, MAX_KEY, MAX_TEXT

DESCRIPTION = (
    "Takes CSV files and answers with a receipt: every row is then in a named version of a table, or in the "
    "upload's rejects with its line and reason."
)
ULID = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"
EXAMPLE_ID = "01JD3V9Q6T5W8ZK2M4N7P0R1S3"
TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
NUMBER = {"type": "number", "minimum": 0}
COUNT = {"type": "integer", "minimum": 0}
NULL_TEXT = {"type": ["string", "null"]}
MAX_MOMENT = 40


def _text(name: str, description: str, example: str) -> Parameter:
    return Parameter(name=name, description=description, schema=TEXT, example=example)


def _choice(name: str, description: str, values: tuple[str, ...], example: str | None = None) -> Parameter:
    schema = {"type": "string", "enum": list(values)}
    return Parameter(name=name, description=description, schema=schema, example=example or values[0])


def _upload(name: str, description: str) -> Parameter:
    schema = {"type": "string", "pattern": ULID}
    return Parameter(name=name, description=description, schema=schema, example=EXAMPLE_ID)


def _path(name: str, description: str, example: str) -> Parameter:
    return Parameter(name=name, description=description, schema=TEXT, example=example, place="path")


def _moment(name: str, description: str, example: str) -> Parameter:
    schema = {"type": "string", "maxLength": MAX_MOMENT, "format": "k2-time"}
    return Parameter(name=name, description=description, schema=schema, example=example)


UPLOAD_PARAMETERS = (
    _choice(
        "dataset", "What the rows are; the layout says it where it is not given.", tuple(MARKET_DATASETS)
    ),
    Parameter(
        name="layout",
        description="The name of a layout, or one inline as JSON.",
        schema={"type": "string", "minLength": 1},
        example="asx-trades",
    ),
    _choice("on_error", "Whether a row at fault is left out, or ends the upload.", ("skip_row", "abort")),
    Parameter(
        name="max_reject_ratio",
        description="An upload with a larger share of rejected rows fails.",
        schema={**NUMBER, "maximum": 1},
        example=0.01,
    ),
    _choice("dry_run", "Whether the rows are only parsed, and nothing is kept.", ("true", "false"), "true"),
    _text("source", "The feed that the rows are of.", "asx"),
    _text("filename", "The file's name, as receipts and layouts know it.", "BHP_20140311.csv"),
    _text("symbol", "The symbol of all rows, where the file does not say it.", "BHP"),
    _text("venue", "The venue (ISO 10383) of all rows, where the file does not say it.", "XASX"),
    _choice("asset_class", "The asset class of all rows.", ASSET_CLASSES),
    _text("currency", "The currency (ISO 4217) of all rows.", "AUD"),
    Parameter(
        name="timezone",
        description="The zone (IANA) of local times, in place of the layout's.",
        schema={"type": "string", "minLength": 1, "maxLength": MAX_TEXT, "format": "k2-zone"},
        example="Australia/Sydney",
    ),
    _text("batch", "A label; all uploads that have it are added up under /v1/batches.", "2014-03"),
    _upload("replaces", "The upload whose rows these take the place of, in one commit."),
    _upload("repairs", "The upload whose rejected rows these are, mended."),
)
HEADERS = (
    Parameter(
        name="Idempotency-Key",
        description="Equal keys are one upload; by default equal contents with equal parameters are.",
        schema={"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]+$"},
        example="asx-2014-03-11",
        place="header",
    ),
    Parameter(
        name="Content-Digest",
        description="RFC 9530 with sha-256 or sha-512; a body that has another digest is refused.",
        schema={"type": "string"},
        example="sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
        place="header",
    ),
    Parameter(
        name="Content-Encoding",
        description="How the body is packed.",
        schema={"type": "string", "enum": list(UNPACKERS)},
        example="gzip",
        place="header",
    ),
)
WAIT = (
    _choice("wait", "Answer when the receipt is final or the time is up.", ("committed",)),
    Parameter(
        name="timeout",
        description="Seconds to wait at most.",
        schema={**NUMBER, "maximum": MAX_WAIT_SECONDS},
        example=30,
    ),
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
UPLOAD_ID = _path("upload_id", "The upload's id, as its receipt says it.", EXAMPLE_ID)

ERRORS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["column", "code", "count"],
        "properties": {"column": NULL_TEXT, "code": {"type": "string"}, "count": COUNT},
    },
}
RECEIPT: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "upload_id": {"type": "string", "pattern": ULID},
        "state": {"type": "string", "enum": list(STATES)},
        "dataset": {"type": "string"},
        "layout": {"type": "string"},
        "source": {"type": "string"},
        "filename": NULL_TEXT,
        "batch": NULL_TEXT,
        "replaces": NULL_TEXT,
        "repairs": NULL_TEXT,
        "timezone": NULL_TEXT,
        "delimiter": {"type": "string"},
        "encoding": {"type": "string"},
        "bytes": COUNT,
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "rows": {
            "type": "object",
            "description": "read = accepted + rejected + filtered; outstanding are rejects not yet mended.",
            "required": ["read", "accepted", "rejected", "filtered", "committed", "outstanding"],
            "additionalProperties": COUNT,
        },
        "errors": ERRORS,
        "offsets": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["topic", "partition", "epoch", "first", "end"],
                "properties": {
                    "topic": {"type": "string"},
                    **dict.fromkeys(("partition", "epoch", "first", "end"), COUNT),
                },
            },
        },
        "version": {**NULL_TEXT, "description": "The token of the first versions that have its rows."},
        "failure": NULL_TEXT,
        "failure_reason": {**NULL_TEXT, "description": "Why a chunk of it could not be read."},
        "received_at": {"type": "string"},
        "published_at": NULL_TEXT,
        "parsed_at": NULL_TEXT,
        "committed_at": NULL_TEXT,
        "finished_at": NULL_TEXT,
        "blocked_by": {"type": ["object", "null"]},
        "repaired_by": {"type": "array", "items": {"type": "string"}},
        "replaced_by": NULL_TEXT,
    },
    "additionalProperties": False,
}
TRIAL: Mapping[str, Any] = {
    "type": "object",
    "description": "What would become of the rows of a dry run; nothing is kept.",
    "properties": {
        "state": {"const": "dry_run"},
        "dataset": {"type": "string"},
        "layout": {"type": "string"},
        "bytes": COUNT,
        "sha256": {"type": "string"},
        "rows": {"type": "object", "additionalProperties": COUNT},
        "errors": ERRORS,
        "rejects": {"type": "array", "items": reference("Reject")},
    },
    "required": ["state", "rows", "errors", "rejects"],
}
REJECT: Mapping[str, Any] = {
    "type": "object",
    "required": ["line", "byte_offset", "column", "code", "message", "raw"],
    "properties": {
        "line": COUNT,
        "byte_offset": COUNT,
        "column": NULL_TEXT,
        "code": {"type": "string"},
        "message": {"type": "string"},
        "raw": {"type": "string"},
    },
}
BATCH: Mapping[str, Any] = {
    "type": "object",
    "required": ["batch", "uploads", "final", "states", "bytes", "rows", "errors", "received_at"],
    "properties": {
        "batch": {"type": "string"},
        "uploads": COUNT,
        "final": {"type": "boolean"},
        "states": {"type": "object", "additionalProperties": COUNT},
        "bytes": COUNT,
        "rows": {"type": "object", "additionalProperties": COUNT},
        "errors": ERRORS,
        "received_at": {"type": "string"},
    },
}


def _form() -> Mapping[str, Any]:
    fields = {parameter.name: parameter.schema for parameter in UPLOAD_PARAMETERS}
    file = {"type": "string", "format": "binary"}
    return {"type": "object", "required": ["file"], "properties": {**fields, "file": file}}


CSV_BODY = {"type": "string", "format": "binary"}
RAW_BODY = {"text/csv": CSV_BODY, "application/octet-stream": CSV_BODY}
"""The file as it is; the second for clients that cannot send the first."""
RECEIPT_ANSWER = one(reference("Receipt"))
TAKEN = {200: one({"anyOf": [reference("Receipt"), reference("Trial")]}), 202: RECEIPT_ANSWER}
TAKING = (409, 413, 422, 507)
LAYOUT_TEXT = {"type": "object", "description": "As it could be posted inline."}
DETECTED = {"type": "object", "required": ["name", "dataset", "rows", "errors"]}
LISTED = {"type": "object", "required": ["name", "dataset", "description"]}

OPERATIONS = (
    Operation(
        method="post",
        path="/v1/uploads",
        summary="Take a file: 202 and its receipt; 200 for one that is known, or for a dry run.",
        parameters=(*UPLOAD_PARAMETERS, *HEADERS),
        body={**RAW_BODY, "application/zip": CSV_BODY, "multipart/form-data": reference("UploadForm")},
        answers=TAKEN,
        problems=(*TAKING, 415),
    ),
    Operation(
        method="get",
        path="/v1/uploads",
        summary="Receipts, newest first.",
        parameters=(
            _choice("state", "Uploads in this state.", STATES, "committed"),
            _text("source", "Uploads of this feed.", "asx"),
            _text("dataset", "Uploads of this dataset.", "trades"),
            _text("filename", "Uploads of a file of this name.", "BHP_20140311.csv"),
            _text("batch", "Uploads with this label.", "2014-03"),
            _moment("start", "Received from then on: RFC 3339, a date or nanoseconds.", "2026-01-01"),
            _moment("end", "Received before then.", "2026-02-01"),
            *PAGE,
        ),
        answers={200: many(reference("Receipt"))},
    ),
    Operation(
        method="get",
        path="/v1/uploads/{upload_id}",
        summary="One receipt.",
        parameters=(UPLOAD_ID, *WAIT),
        answers={200: RECEIPT_ANSWER},
        problems=(404,),
    ),
    Operation(
        method="delete",
        path="/v1/uploads/{upload_id}",
        summary="End an upload that is not committed yet; 202 while that is under way.",
        parameters=(UPLOAD_ID, WAIT[1]),
        answers={200: RECEIPT_ANSWER, 202: RECEIPT_ANSWER},
        problems=(404, 409),
    ),
    Operation(
        method="post",
        path="/v1/uploads/{upload_id}/retract",
        summary="Take the rows of a committed upload out of all later versions.",
        parameters=(UPLOAD_ID, WAIT[1]),
        answers={200: RECEIPT_ANSWER, 202: RECEIPT_ANSWER},
        problems=(404, 409),
    ),
    Operation(
        method="post",
        path="/v1/uploads/{upload_id}/reload",
        summary="The archived bytes again with other parameters, replacing what is committed in one commit.",
        parameters=(UPLOAD_ID, *UPLOAD_PARAMETERS),
        answers=TAKEN,
        problems=(404, 410, *TAKING),
    ),
    Operation(
        method="get",
        path="/v1/uploads/{upload_id}/content",
        summary="The bytes as they were posted, unpacked.",
        parameters=(UPLOAD_ID,),
        answers={200: {"text/csv": CSV_BODY}},
        problems=(404, 410),
    ),
    Operation(
        method="get",
        path="/v1/uploads/{upload_id}/rejects",
        summary="The refused rows by line, as far as they are in the table.",
        parameters=(UPLOAD_ID, _choice("format", "How they are written.", REJECT_FORMATS, "csv"), *PAGE),
        answers={200: {**many(reference("Reject")), "text/csv": CSV_BODY, "application/x-ndjson": CSV_BODY}},
        problems=(404,),
    ),
    Operation(
        method="get",
        path="/v1/batches/{batch}",
        summary="What became of all uploads with this label, added up.",
        parameters=(_path("batch", "The label.", "2014-03"),),
        answers={200: one(reference("Batch"))},
        problems=(404,),
    ),
    Operation(
        method="get",
        path="/v1/layouts",
        summary="The layouts that an upload may name.",
        answers={200: many(LISTED)},
    ),
    Operation(
        method="post",
        path="/v1/layouts/detect",
        summary="The layouts that can read a file that begins like the body, the best first.",
        parameters=(_text("filename", "The file's name.", "BHP_20140311.csv"),),
        body=RAW_BODY,
        answers={200: many(DETECTED)},
        problems=(413,),
    ),
    Operation(
        method="get",
        path="/v1/layouts/{name}",
        summary="One layout.",
        parameters=(
            _path("name", "The layout's name.", "asx-trades"),
            _choice("dataset", "Which of several of the name is meant.", tuple(MARKET_DATASETS)),
        ),
        answers={200: one(LAYOUT_TEXT)},
        problems=(404,),
    ),
)


def api() -> Mapping[str, Any]:
    """The document."""
    schemas = {"Receipt": RECEIPT, "Trial": TRIAL, "Reject": REJECT, "Batch": BATCH, "UploadForm": _form()}
    return document(
        title="K2 ingest-gateway",
        description=DESCRIPTION,
        operations=OPERATIONS,
        schemas=schemas,
        writes="ingest",
    )
