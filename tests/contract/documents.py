"""The OpenAPI documents of all five services, as code: no service has to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import csv_loader.openapi
import iceberg_sink.openapi
import ingest_gateway.http.openapi
import replay_service.openapi

from tests.docs.query_endpoints import document as query_service

DOCUMENTS: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "ingest-gateway": ingest_gateway.http.openapi.api,
    "csv-loader": csv_loader.openapi.api,
    "iceberg-sink": iceberg_sink.openapi.api,
    "query-service": query_service,
    "replay-service": replay_service.openapi.api,
}


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield method, path and operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation
