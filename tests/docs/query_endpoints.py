"""Writes the reference of the query service's endpoints from its code; `./task docs` runs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from k2common.engine.connection import Engine
from k2common.iceberg.archive import Archive
from k2common.iceberg.catalogs.catalog import open_catalog
from k2common.iceberg.reading.reader import VersionReader
from k2common.query.queries import Queries
from k2common.query.sandbox import Sandbox
from k2common.runtime.blocking import Blocking
from k2common.runtime.service import Runtime
from k2common.settings.engine import EngineSettings
from k2common.settings.sandbox import SandboxSettings
from k2common.settings.service import HttpSettings
from k2common.testing.iceberg import folder_catalog
from pydantic import SecretStr
from query_service.app import application, parts_of
from query_service.metrics import QueryMetrics
from query_service.settings import QuerySettings

SECRET = SecretStr("no request is signed here")

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "query-endpoints.md"
HEAD = """# Endpoints of the query-service

Made from the code by `./task docs`; the [service's page](../services/query-service.md) explains them, [errors](errors.md) lists the codes. Every endpoint may also answer 400, 401, 403, 429 and 503 as a problem document.
"""  # noqa: E501 - a paragraph is a line
EVERYWHERE = {"400", "401", "403", "429", "503"}
BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "{} characters at least",
    "maxLength": "{} characters at most",
    "maxItems": "{} at most",
    "default": "default `{}`",
}


def document() -> Mapping[str, Any]:
    """The OpenAPI document of the service with all that it can have."""
    engine, blocking, runtime = EngineSettings(memory_megabytes=128), Blocking(workers=1), Runtime()
    opened = Engine(engine)
    queries = Queries(opened, engine)
    try:
        with TemporaryDirectory() as home:
            iceberg = folder_catalog(Path(home))
            catalog = open_catalog(iceberg)
            parts = parts_of(
                VersionReader(catalog),
                queries,
                blocking,
                settings=QuerySettings(citation_key=SECRET, page_key=SECRET),
                metrics=QueryMetrics(runtime.metrics),
                sandbox=Sandbox(SandboxSettings()),
                archive=Archive(catalog, root=iceberg.archive_root),
            )
            return dict(application(parts, runtime, HttpSettings(port=8004)).openapi())
    finally:
        queries.close()
        opened.close()
        blocking.close()


def page(api: Mapping[str, Any]) -> str:
    """The reference as Markdown."""
    return "\n".join([HEAD, *(line for path in sorted(_own(api)) for line in _path(api, path))])


def _own(api: Mapping[str, Any]) -> Iterator[str]:
    return (path for path in api["paths"] if path.startswith("/v1/"))


def _path(api: Mapping[str, Any], path: str) -> Iterator[str]:
    for method, operation in api["paths"][path].items():
        yield f"## {method.upper()} {path}\n"
        statuses = [status for status in operation["responses"] if status not in EVERYWHERE]
        yield f"{operation['summary']}. Answers {', '.join(statuses)}.\n"
        rows = [*_parameters(operation), *_body(api, operation)]
        if rows:
            yield from ("| name | in | | bounds | example |", "|---|---|---|---|---|", *rows, "")


def _parameters(operation: Mapping[str, Any]) -> Iterator[str]:
    for given in operation.get("parameters", ()):
        schema = given.get("schema", {})
        yield _row(given["name"], given["in"], given.get("description", ""), schema, given)


def _body(api: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[str]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    for field, schema in (
        api.get("components", {}).get("schemas", {}).get(name, {}).get("properties", {}).items()
    ):
        yield _row(field, "body", schema.get("description", ""), schema, schema)


def _row(name: str, place: str, text: str, schema: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    found = [schema, *schema.get("anyOf", ())]
    bounds = [
        words.format(part[key])
        for part in found
        for key, words in BOUNDS.items()
        if part.get(key) is not None and part.get(key) != [] and part.get(key) != {}
    ]
    choices = [f"`{value}`" for part in found for value in part.get("enum", ())]
    examples = schema.get("examples") or given.get("examples") or [given.get("example")]
    shown = examples[0] if isinstance(examples[0], str) else json.dumps(examples[0])
    example = "" if examples[0] is None else f"`{shown}`"
    limits = "; ".join(dict.fromkeys([*([" ".join(choices)] if choices else []), *bounds]))
    return f"| `{name}` | {place} | {_cell(text)} | {_cell(limits)} | {_cell(example)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(document()), "utf-8")
    sys.stdout.write(f"{PAGE.name}\n")
