"""Every service answers probes, errors and unknown parameters in the same way."""

import httpx
import pytest
from k2common.errors import TransientError
from k2common.http.app import create_app
from k2common.http.parameters import require_known
from k2common.http.problems import Problem
from k2common.runtime.readiness import Readiness
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def things(request: Request) -> Response:
    require_known(request, {"limit", "symbols"})
    match request.path_params["name"]:
        case "unavailable":
            raise TransientError("Kafka is unavailable")
        case "broken":
            raise ZeroDivisionError
        case "gone":
            raise Problem(410, "VERSION_GONE", "purged", extra={"version": "trades@1"})
    return JSONResponse({"data": []})


@pytest.fixture
def readiness() -> Readiness:
    return Readiness()


@pytest.fixture
def client(readiness: Readiness) -> httpx.AsyncClient:
    app = create_app([Route("/v1/things/{name}", things)], readiness=readiness, metrics=CollectorRegistry())
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://k2")


async def test_probes_tell_what_is_known(client: httpx.AsyncClient, readiness: Readiness) -> None:
    assert (await client.get("/livez")).status_code == 200
    assert (await client.get("/readyz")).status_code == 200
    readiness.waiting("kafka", "unavailable")
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["blocked_by"]) == (503, {"kafka": "unavailable"})


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/things/gone", 410, "VERSION_GONE"),
        ("GET", "/v1/things/unavailable", 503, "UNAVAILABLE"),
        ("GET", "/v1/things/broken", 500, "INTERNAL"),
        ("GET", "/v1/nothing", 404, "NOT_FOUND"),
        ("DELETE", "/v1/things/x", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/things/x?limt=3", 400, "INVALID_PARAMETER"),
        ("GET", "/v1/things/x?limit=3&limit=4", 400, "INVALID_PARAMETER"),
    ],
)
async def test_every_error_is_a_problem_document(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await client.request(method, path, headers={"X-Request-ID": "mine"})
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert (body["request_id"], answer.headers["X-Request-ID"]) == ("mine", "mine")
    assert body["instance"] == path.partition("?")[0]


async def test_an_unknown_parameter_is_named_with_the_nearest(client: httpx.AsyncClient) -> None:
    (error,) = (await client.get("/v1/things/x?limt=3")).json()["errors"]
    assert error["parameter"] == "limt"
    assert "did you mean limit?" in error["message"]


async def test_an_outage_says_when_to_come_again(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/things/unavailable")).headers["Retry-After"] == "2"


async def test_requests_are_counted_by_pattern_and_never_by_value(client: httpx.AsyncClient) -> None:
    await client.get("/v1/things/BHP")
    text = (await client.get("/metrics")).text
    assert 'k2_http_requests_answered_total{route="/v1/things/{name}",status="200"} 1.0' in text
    assert "BHP" not in text


async def test_answers_are_counted_by_template_with_their_bytes(client: httpx.AsyncClient) -> None:
    size = sum([len((await client.get(f"/v1/things/{name}")).content) for name in ("BHP", "RIO")])
    text = (await client.get("/metrics")).text
    assert f'k2_http_requests_answered_bytes_total{{route="/v1/things/{{name}}"}} {size:.1f}' in text
    assert 'k2_http_requests_answered_seconds_count{route="/v1/things/{name}"} 2.0' in text
    assert "k2_http_requests_running 1.0" in text
    assert "BHP" not in text
