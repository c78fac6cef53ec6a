"""The OpenAPI document of the sink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k2common.http.openapi import document

from iceberg_sink import maintenance_routes, tag_routes

DESCRIPTION = "What the tables are made of, commands that maintain them, and names for versions."
PARTS = (maintenance_routes, tag_routes)
OPERATIONS = tuple(operation for part in PARTS for operation in part.OPERATIONS)


def api() -> Mapping[str, Any]:
    """The document."""
    schemas = {name: schema for part in PARTS for name, schema in part.SCHEMAS.items()}
    return document(title="K2 iceberg-sink", description=DESCRIPTION, operations=OPERATIONS, schemas=schemas)
