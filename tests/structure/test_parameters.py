"""Every route of every service refuses query parameters that it does not know and those that are repeated."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.structure.apps import operations, path_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def refused(app: Any, method: str, path: str, query: str) -> list[tuple[str, str]]:
    """Names and codes of the faults."""
    media = "text/csv" if path == "/v1/uploads" else "application/json"
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        headers = {"Content-Type": media}
        answer = await http.request(method, f"{path}?{query}", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PARAMETER"), (path, answer.text)
    return [(error["parameter"], error["code"]) for error in answer.json()["errors"]]


async def test_every_route_refuses_an_unknown_parameter(apps: Mapping[str, Any]) -> None:
    tried = 0
    for app in apps.values():
        for method, template in operations(app):
            if template.startswith("/v1/"):
                found = await refused(app, method, path_of(template), "nonsense=1")
                assert ("nonsense", "UNKNOWN_PARAMETER") in found, template
                tried += 1
    assert tried > 40


async def test_every_parameter_of_every_route_is_refused_when_it_is_repeated(apps: Mapping[str, Any]) -> None:
    tried = 0
    for app in apps.values():
        for method, template, name in await documented(app):
            found = await refused(app, method, path_of(template), f"{name}=A&{name}=B")
            assert (name, "REPEATED") in found, template
            tried += 1
    assert tried > 150


async def documented(app: Any) -> list[tuple[str, str, str]]:
    """Method, path and name of each query parameter in the OpenAPI document."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        answer = await http.get("/openapi.json")
    return [
        (method.upper(), template, parameter["name"])
        for template, methods in (answer.json()["paths"] if answer.status_code == 200 else {}).items()
        for method, operation in methods.items()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query"
    ]


async def test_a_replay_stream_takes_its_cursor_once(apps: Mapping[str, Any]) -> None:
    path = "/v1/replays/X/stream"
    assert await refused(apps["replay-service"], "GET", path, "cursor=a&cursor=b") == [("cursor", "REPEATED")]
