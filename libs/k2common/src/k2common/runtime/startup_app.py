"""A service's HTTP address from its first moment on: probes while it waits for dependencies, then itself."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

RETRY_SECONDS = "2"


class StartupApp:
    """Answers the probes and /metrics itself, all else with 503, until it is opened to the service.

    `guard` is put around these answers; the service has its own.
    """

    def __init__(self, metrics: CollectorRegistry, *, guard: Callable[[ASGIApp], ASGIApp]) -> None:
        self._metrics = metrics
        self._guarded = guard(self._send_answer)
        self._inside: ASGIApp | None = None
        self._reason = "it is starting"

    def waiting(self, reason: str) -> None:
        """Say in /readyz what the service waits for."""
        self._reason = reason

    def open(self, app: ASGIApp) -> None:
        """From now on the service answers."""
        self._inside = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._inside is not None:
            await self._inside(scope, receive, send)
        elif scope["type"] == "http":
            await self._guarded(scope, receive, send)

    async def _send_answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(scope)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        path = scope["path"]
        if path == "/livez":
            return PlainTextResponse("ok\n")
        if path == "/metrics":
            encode, media_type = choose_encoder(Headers(scope=scope).get("Accept", ""))
            return Response(encode(self._metrics), headers={"Content-Type": media_type, "Vary": "Accept"})
        if path == "/readyz":
            body = {"ready": False, "blocked_by": {"start": self._reason}}
            return JSONResponse(body, HTTPStatus.SERVICE_UNAVAILABLE)
        status = HTTPStatus.SERVICE_UNAVAILABLE
        problem = {
            "type": "urn:k2:problem:unavailable",
            "title": status.phrase,
            "status": status,
            "detail": self._reason,
            "instance": path,
            "code": "UNAVAILABLE",
            "request_id": None,
            "errors": [],
        }
        headers = {"Retry-After": RETRY_SECONDS}
        return JSONResponse(problem, status, headers=headers, media_type="application/problem+json")
