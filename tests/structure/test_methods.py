"""HEAD is answered wherever GET is, Allow names every method of a path, /metrics has both formats."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.structure.apps import operations, path_of

KNOWN = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
CHANGING = {"content-length", "date", "x-request-id"}


pytestmark = pytest.mark.asyncio(loop_scope="session")


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


async def test_head_is_answered_as_get_without_a_body(apps: Mapping[str, Any]) -> None:
    for app in apps.values():
        async with client(app) as http:
            for path in {path_of(template) for method, template in operations(app) if method == "GET"}:
                got, head = await http.get(path), await http.head(path)
                assert (head.status_code, head.content) == (got.status_code, b""), path
                assert head.headers.keys() == got.headers.keys(), path
                if got.headers.get("Content-Type") == "application/json" and "/v1/" not in path:
                    assert head.headers["Content-Length"] == got.headers["Content-Length"], path


async def test_a_refused_method_is_told_all_methods_of_its_path(apps: Mapping[str, Any]) -> None:
    for app in apps.values():
        async with client(app) as http:
            for path in {path_of(template) for _, template in operations(app)}:
                answers = {method: await http.request(method, path) for method in KNOWN}
                refused = [answer for answer in answers.values() if answer.status_code == 405]
                served = {method for method, answer in answers.items() if answer.status_code != 405}
                assert refused, path
                for answer in refused:
                    assert set(answer.headers["Allow"].split(", ")) == served, path


async def test_metrics_are_given_as_openmetrics_to_those_who_ask(apps: Mapping[str, Any]) -> None:
    for app in apps.values():
        async with client(app) as http:
            plain = await http.get("/metrics")
            assert plain.headers["Content-Type"].startswith("text/plain; version=")
            found = await http.get(
                "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}
            )
        assert found.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert len(list(text_string_to_metric_families(found.text))) > 3
