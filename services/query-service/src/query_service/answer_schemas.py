"""JSON Schemas of what each endpoint answers: rows by their columns, documents by their fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from k2common.columnar.arrow import arrow_schema_of
from k2common.http.row_schemas import object_schema, row_schema
from k2common.schemas.datasets import CORPORATE_ACTIONS, INSTRUMENTS, QUOTES, TRADES, Dataset, avro_schema

from query_service.bars import bars
from query_service.gaps.condition import COUNTED, EVENT_KINDS
from query_service.joins import joins
from query_service.reference import reference as names

TEXT = {"type": "string"}
NULL_TEXT = {"type": ["string", "null"]}
COUNT = {"type": "integer", "minimum": 0}
NULL_COUNT = {"type": ["integer", "null"], "minimum": 0}
DATE = {"type": "string", "format": "date"}
NULL_DATE = {"type": ["string", "null"], "format": "date"}
FREE = {"type": "object"}
SPAN = {"type": ["object", "null"], "properties": {"first": TEXT, "last": TEXT}}
ENDPOINT = {"type": "string", "description": "Whose answer: its path below /v1/."}


def _rows(dataset: Dataset) -> Mapping[str, Any]:
    docs = {field["name"]: field["doc"] for field in avro_schema(dataset.topic.schema)["fields"]}
    return row_schema(arrow_schema_of(dataset.topic.schema), docs, attributes=True)


def _columns(schema: pa.Schema) -> Mapping[str, Any]:
    return row_schema(schema, {})


_DATASET = object_schema(
    {
        **dict.fromkeys(("dataset", "table"), TEXT),
        "description": NULL_TEXT,
        "version": NULL_COUNT,
        "committed_at": NULL_TEXT,
        **dict.fromkeys(("files", "rows", "bytes"), COUNT),
        "rows_exact": {"type": "boolean"},
        **dict.fromkeys(("first_day", "last_day"), NULL_DATE),
    }
)
_FIELD = object_schema({"name": TEXT, "type": TEXT, "nullable": {"type": "boolean"}, "doc": NULL_TEXT})
_RANGE = {
    "type": "object",
    "required": ["dataset", "rows"],
    "properties": {
        "dataset": TEXT,
        "rows": COUNT,
        "symbols": COUNT,
        **dict.fromkeys(("ts_event_ns", "trading_date", "ex_date", "valid_from", "valid_to"), SPAN),
    },
    "additionalProperties": False,
}
_ESTIMATE = object_schema(
    {
        "files": COUNT,
        "row_groups": NULL_COUNT,
        **dict.fromkeys(("rows", "bytes"), COUNT),
        "basis": {"type": "string", "enum": ["row_groups", "files"]},
    }
)
_VERSION = object_schema(
    {
        **dict.fromkeys(("version", "table", "committed_at", "snapshot_id"), TEXT),
        "number": COUNT,
        "offsets": {"type": "object", "additionalProperties": COUNT},
        "hidden": {"type": "object", "additionalProperties": TEXT},
    }
)
_DIFFERENCE = object_schema(
    {
        "change": {"type": "string", "enum": ["added", "taken_back"]},
        **dict.fromkeys(("upload_id", "venue", "symbol", "source", "first", "last"), TEXT),
        "trading_date": DATE,
        "rows": COUNT,
        "reason": NULL_TEXT,
    }
)
_GAP = object_schema(
    {
        **dict.fromkeys(("dataset", "cause", "venue", "symbol", "source", "start", "end"), TEXT),
        "trading_date": NULL_DATE,
        **dict.fromkeys(("first_sequence", "count"), NULL_TEXT),
        "evidence": FREE,
    },
    closed=False,
)
_CONDITION = object_schema(
    {
        "trading_date": DATE,
        "condition": {"type": "string", "enum": ["available", "degraded", "missing"]},
        "last_ingested": NULL_TEXT,
        **dict.fromkeys(COUNTED, COUNT),
        **dict.fromkeys(("uploads", "rejects", "dead_letters", "gaps"), COUNT),
        "missing_sequences": TEXT,
        **dict.fromkeys(EVENT_KINDS, COUNT),
    }
)
_BOOK = object_schema(
    {
        **dict.fromkeys(("count", "two_sided", "crossed"), COUNT),
        **dict.fromkeys(("bid_volume", "ask_volume"), TEXT),
        **dict.fromkeys(("min_spread", "max_spread", "mean_spread"), NULL_TEXT),
    }
)
_SUMMARY = object_schema(
    {
        "symbol": TEXT,
        "trading_date": DATE,
        **dict.fromkeys(("open", "high", "low", "close"), NULL_TEXT),
        **dict.fromkeys(("volume", "notional"), TEXT),
        "vwap": NULL_TEXT,
        "trades": COUNT,
        **dict.fromkeys(("currency", "source"), NULL_TEXT),
        "venues": {"type": "array", "items": TEXT},
        "quotes": _BOOK,
    }
)
_PLACE = object_schema({"topic": TEXT, **dict.fromkeys(("epoch", "partition", "offset"), COUNT)})
_ORIGIN = object_schema(
    {
        "row": {"type": ["object", "null"], "description": "The row as its dataset's endpoint gives it."},
        "kafka": {**_PLACE, "type": ["object", "null"]},
        "reject": {"type": ["object", "null"]},
        "raw": NULL_TEXT,
        "file": object_schema(
            {
                "filename": NULL_TEXT,
                "sha256": TEXT,
                "bytes": COUNT,
                "layout": TEXT,
                "source": NULL_TEXT,
            }
        ),
        "upload_id": TEXT,
        "line": COUNT,
        "visible_since": NULL_TEXT,
    }
)
_CITATION = object_schema(
    {
        "endpoint": ENDPOINT,
        "parameters": FREE,
        "version": NULL_TEXT,
        "rows": COUNT,
        **dict.fromkeys(("sha256", "software", "made_at", "signature"), TEXT),
    }
)
_VERIFIED = object_schema({"holds": {"type": "boolean"}, "rows": COUNT, "sha256": TEXT, "software": TEXT})

META: Mapping[str, Any] = {
    "type": "object",
    "description": "What is known about the answer: its version above all.",
    "required": ["request_id", "version", "as_of", "warnings", "completeness", "timings"],
    "properties": {
        "request_id": NULL_TEXT,
        "version": {"type": ["string", "null"], "description": "The token; ask again with as_of=<token>."},
        "as_of": {"type": ["string", "null"], "description": "As it was asked."},
        "row_count": {"type": "integer"},
        "unresolved": {"type": "array", "items": TEXT},
        "warnings": {"type": "array", "items": TEXT},
        "completeness": {
            "type": ["object", "null"],
            "properties": {"complete": {"type": "boolean"}, "uploads_loading": {"type": "integer"}},
        },
        "timings": {"type": "object", "additionalProperties": {"type": "number"}},
    },
}
SCHEMAS: Mapping[str, Any] = {
    "Meta": META,
    "Trade": _rows(TRADES),
    "Quote": _rows(QUOTES),
    "Bar": _columns(bars.SCHEMA),
    "TradeWithQuote": _columns(joins.SCHEMA),
    "Symbol": _columns(names.SYMBOLS),
    "Instrument": _rows(INSTRUMENTS),
    "ResolvedSymbol": _columns(names.RESOLVED),
    "CorporateAction": _rows(CORPORATE_ACTIONS),
    "SqlRow": FREE,
    "Dataset": _DATASET,
    "Column": _FIELD,
    "Range": _RANGE,
    "Estimate": _ESTIMATE,
    "Version": _VERSION,
    "Difference": _DIFFERENCE,
    "Gap": _GAP,
    "Condition": _CONDITION,
    "Summary": _SUMMARY,
    "Origin": _ORIGIN,
    "SignedCitation": _CITATION,
    "VerifiedCitation": _VERIFIED,
}
"""By name, among the document's components."""
