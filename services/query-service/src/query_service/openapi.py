"""The OpenAPI document of the query service: FastAPI's, with what all services say."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from k2common.http.openapi import PROBES, PROBLEM, SECURITY_SCHEMES, operation_id, security_of

from query_service.answer_schemas import SCHEMAS

WRITES = "read"
"""The scope of POST: it only asks."""


class DocumentedApi(FastAPI):
    """FastAPI without its own pages, whose document has security, names and probes as all services' have."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, openapi_url=None, docs_url=None, redoc_url=None)

    def openapi(self) -> dict[str, Any]:
        """Return the document; it is made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _completed(super().openapi())
        return self.openapi_schema


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            operation["operationId"] = operation_id(method, path)
            operation["security"] = security_of(method, WRITES)
    for probe in PROBES:
        document["paths"].setdefault(probe.path, {})[probe.method] = probe.to_json()
    components = document.setdefault("components", {})
    components["schemas"] = {**components.get("schemas", {}), **SCHEMAS, "Problem": PROBLEM}
    components["securitySchemes"] = SECURITY_SCHEMES
    return document
