"""The OpenAPI document of the sink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k2common.http.openapi import document

from iceberg_sink.dead_letters import routes as dead_letter_routes
from iceberg_sink.maintenance import routes as maintenance_routes
from iceberg_sink.repair import routes as repair_routes
from iceberg_sink.tags import routes as tag_routes

DESCRIPTION = "What the tables are made of, commands that maintain them, names for versions, dead letters."
PARTS = (maintenance_routes, repair_routes, tag_routes, dead_letter_routes)
OPERATIONS = tuple(operation for part in PARTS for operation in part.OPERATIONS)


def api() -> Mapping[str, Any]:
    """The document."""
    schemas = {name: schema for part in PARTS for name, schema in part.SCHEMAS.items()}
    return document(title="K2 iceberg-sink", description=DESCRIPTION, operations=OPERATIONS, schemas=schemas)
