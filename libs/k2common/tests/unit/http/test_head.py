"""HEAD of a stream is its headers: none of its parts is made beyond the first."""

from collections.abc import AsyncGenerator

import httpx
from k2common.http.app import install
from k2common.http.streaming import Attended, StreamedResponse
from k2common.runtime.readiness import Readiness
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def test_the_work_for_a_stream_ends_with_its_headers() -> None:
    made: list[int] = []
    closed: list[bool] = []

    async def parts() -> AsyncGenerator[bytes, None]:
        try:
            for n in range(1_000):
                made.append(n)
                yield b"x" * 100_000
        finally:
            closed.append(True)

    async def stream(_: Request) -> Response:
        return StreamedResponse(parts(), reader_seconds=60, media_type="text/csv", headers={"ETag": "x"})

    async def whole(request: Request) -> Response:
        return JSONResponse({"method": request.method})

    app = Starlette(routes=[Route("/stream", stream), Route("/whole", whole)])
    app.add_middleware(Attended)
    install(app, readiness=Readiness(), metrics=CollectorRegistry())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://k2") as http:
        answer = await http.head("/stream")
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (200, b"", "x")
        assert "Content-Length" not in answer.headers
        assert (len(made) <= 2, closed) == (True, [True])
        answer = await http.head("/whole")
        assert (answer.headers["Content-Length"], answer.content) == (str(len(b'{"method":"GET"}')), b"")
        text = (await http.get("/metrics")).text
    assert 'route="/stream",status="200"} 1.0' in text
