"""What a person finds at a service: a start page, and the OpenAPI document in a viewer.

The viewer is Swagger UI, from files that a package installed beside the service; nothing is loaded from
elsewhere. Without JavaScript the page shows a plain list of the operations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from k2common.http.envelope import single

START_PATH = "/"
DOCUMENT_PATH = "/openapi.json"
PAGE_PATH = "/docs"
LINKS: Mapping[str, str] = {
    "document": DOCUMENT_PATH,
    "docs": PAGE_PATH,
    "ready": "/readyz",
    "live": "/livez",
    "metrics": "/metrics",
}
PACKAGE = "fastapi-swagger"
FOLDER = "fastapi_swagger/resources"
ASSETS: Mapping[str, str] = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
SCRIPT = "start.js"
OPEN_PATHS = (
    START_PATH,
    DOCUMENT_PATH,
    PAGE_PATH,
    *(f"{PAGE_PATH}/{name}" for name in (SCRIPT, *ASSETS)),
)
"""Readable without a key, also where keys are on."""
OPTIONS: Mapping[str, Any] = {
    "url": DOCUMENT_PATH,
    "dom_id": "#operations",
    "deepLinking": True,
    "validatorUrl": None,
}
HEADERS: Mapping[str, str] = {
    # Swagger UI sets styles of elements and draws its icons as data.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
CACHED = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}


def documented(make: Callable[[], Mapping[str, Any]]) -> list[Route]:
    """Return the routes of the start page, the document that `make` gives, its page and the page's files."""

    async def text(_: Request) -> Response:
        return JSONResponse(make())

    async def page(_: Request) -> Response:
        return HTMLResponse(_page(make()), headers=HEADERS)

    async def start(request: Request) -> Response:
        info = make()["info"]
        headers = {**HEADERS, "Vary": "Accept"}
        if "text/html" in request.headers.get("Accept", ""):
            return HTMLResponse(_start_page(info), headers=headers)
        data = {"service": info["title"], "description": info.get("description", ""), "links": LINKS}
        return JSONResponse(single(data, request), headers=headers)

    async def script(_: Request) -> Response:
        text = f"SwaggerUIBundle({json.dumps(OPTIONS)});\n"
        return Response(text, media_type="text/javascript", headers=CACHED)

    async def asset(request: Request) -> Response:
        name = request.url.path.rpartition("/")[2]
        return FileResponse(_folder() / name, media_type=ASSETS[name], headers=CACHED)

    return [
        Route(START_PATH, start),
        Route(DOCUMENT_PATH, text),
        Route(PAGE_PATH, page),
        Route(f"{PAGE_PATH}/{SCRIPT}", script),
        *(Route(f"{PAGE_PATH}/{name}", asset) for name in ASSETS),
    ]


@cache
def _folder() -> Path:
    # The package itself is not imported: only its files are wanted.
    return Path(str(distribution(PACKAGE).locate_file(FOLDER)))


def _head(title: str) -> str:
    return f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"


def _start_page(info: Mapping[str, Any]) -> str:
    title, description = info["title"], info.get("description", "")
    links = "".join(f"<li><a href={path}>{escape(name)}</a></li>" for name, path in LINKS.items())
    return f"{_head(title)}<h1>{escape(title)}</h1><p>{escape(description)}</p><ul>{links}</ul>"


def _page(document: Mapping[str, Any]) -> str:
    info = document["info"]
    return "\n".join(
        [
            _head(info["title"]),
            f"<link rel=stylesheet href={PAGE_PATH}/swagger-ui.css>",
            f"<p><a href={START_PATH}>{escape(info['title'])}</a> <a href={DOCUMENT_PATH}>document</a></p>",
            "<div id=operations>",
            *_operations(document),
            "</div>",
            f"<script src={PAGE_PATH}/swagger-ui-bundle.js></script>",
            f"<script src={PAGE_PATH}/{SCRIPT}></script>",
        ]
    )


def _operations(document: Mapping[str, Any]) -> list[str]:
    parts = [f"<p>{escape(document['info'].get('description', ''))}</p>"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(operation.get('summary', ''))}</p>")
            parts += _parameters(operation.get("parameters", ()))
            parts.append(f"<p>Answers: {escape(', '.join(operation['responses']))}</p>")
    return parts


def _parameters(parameters: Sequence[Mapping[str, Any]]) -> list[str]:
    if not parameters:
        return []
    rows = [
        f"<tr><td><code>{escape(p['name'])}</code><td>{escape(p['in'])}<td>{escape(p.get('description', ''))}"
        f"<td>{escape(str(p.get('example', '')))}</tr>"
        for p in parameters
    ]
    return ["<table><tr><th>parameter<th>in<th><th>example</tr>", *rows, "</table>"]
