"""No route of any service takes a JSON body in which a key stands twice: the last value would count alone."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.contract.documents import DOCUMENTS
from tests.contract.documents import operations as documented
from tests.structure.apps import path_of

MEDIA = "application/json"
LAYOUT = '{"name": "mine", "name": "other", "dataset": "trades", "fields": {"price": 1, "price": 2}}'
FORM = "\r\n".join(
    (
        "--x",
        'Content-Disposition: form-data; name="layout"',
        "",
        LAYOUT,
        "--x",
        'Content-Disposition: form-data; name="file"; filename="a.csv"',
        "",
        "a",
        "--x--",
        "",
    )
)


pytestmark = pytest.mark.asyncio(loop_scope="session")


async def refused(app: Any, method: str, path: str, body: str, media: str = MEDIA) -> list[tuple[str, str]]:
    """Pointers and codes of the faults."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        answer = await http.request(method, path, content=body.encode(), headers={"Content-Type": media})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PARAMETER"), (path, answer.text)
    return [(error["pointer"], error["code"]) for error in answer.json()["errors"]]


async def test_every_json_body_is_refused_where_a_key_is_repeated(apps: Mapping[str, Any]) -> None:
    tried: dict[str, int] = {}
    for name, app in apps.items():
        for method, template, operation in documented(DOCUMENTS[name]()):
            if MEDIA not in operation.get("requestBody", {}).get("content", {}):
                continue
            found = await refused(app, method, path_of(template), '{"a": {"b": 1}, "a": {"b": 1, "b": 2}}')
            assert found == [("/a", "REPEATED"), ("/a/b", "REPEATED")], template
            tried[name] = tried.get(name, 0) + 1
    assert tried.keys() == {"iceberg-sink", "query-service", "replay-service"}
    assert sum(tried.values()) > 5


async def test_a_layout_in_a_form_is_refused_where_a_key_is_repeated(apps: Mapping[str, Any]) -> None:
    media = "multipart/form-data; boundary=x"
    found = await refused(apps["ingest-gateway"], "POST", "/v1/uploads", FORM, media)
    assert found == [("/name", "REPEATED"), ("/fields/price", "REPEATED")]
