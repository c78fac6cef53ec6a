"""The OpenAPI document of the loader, which has no operations but those that every service has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k2common.http.openapi import document

DESCRIPTION = (
    "Parses chunks of uploads from Kafka and publishes a record per row. It is not asked for anything: "
    "receipts of the ingest-gateway say what became of an upload."
)


def api() -> Mapping[str, Any]:
    """Return the document."""
    return document(title="K2 csv-loader", description=DESCRIPTION, operations=(), schemas={})
