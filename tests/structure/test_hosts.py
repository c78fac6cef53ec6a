"""No route of any service answers a rebound name, and none that writes answers a page of a stranger."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.structure.apps import WRITES, operations, path_of

FOREIGN = ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"})


pytestmark = pytest.mark.asyncio(loop_scope="session")


async def code(app: Any, method: str, template: str, **headers: str) -> tuple[int, str]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001") as http:
        answer = await http.request(method, path_of(template), headers=headers, content=b"x")
    return answer.status_code, answer.json()["code"]


async def test_no_route_answers_a_foreign_host(apps: Mapping[str, Any]) -> None:
    for app in apps.values():
        for method, template in operations(app):
            found = await code(app, method, template, Host="evil.example")
            assert found == (403, "HOST_NOT_ALLOWED"), template
        assert await code(app, "GET", "/v1/nothing", Host="evil.example") == (403, "HOST_NOT_ALLOWED")


async def test_no_write_is_taken_from_a_page_of_another_origin(apps: Mapping[str, Any]) -> None:
    tried = 0
    for app in apps.values():
        for method, template in operations(app):
            for headers in FOREIGN if method in WRITES else ():
                found = await code(app, method, template, **headers)
                assert found == (403, "CROSS_SITE_REQUEST"), template
                tried += 1
    assert tried > 50
