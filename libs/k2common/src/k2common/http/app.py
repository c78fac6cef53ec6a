"""An application with what all services have: probes, metrics, request ids, problem documents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULID

from k2common.errors import DataFault, TransientError
from k2common.http.access.authorization import Access
from k2common.http.access.hosts import HostGuard
from k2common.http.bodies import BoundedBodies, OneLength, PacedAnswers, ReaderTooSlow
from k2common.http.head import HeadAsGet
from k2common.http.metrics import RequestMetrics
from k2common.http.problems import Problem, problem_response
from k2common.observability.logging import bound, get_logger
from k2common.observability.tracing import NoOpTracer, SpanKind, begun, extract_http, tracer
from k2common.runtime.clock import Clock, SystemClock
from k2common.runtime.readiness import Readiness
from k2common.settings.service import HttpSettings

REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
RETRY_SECONDS = "2"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
CLIENT_LEFT = 499
"""The status by which a request is counted whose client left before it was answered; nobody is sent it."""
REPAIR_SECONDS = "60"
"""Somebody has to repair a file before the same request can succeed."""
PROBES = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked every few seconds by machines; no trace begins with them."""
log = get_logger(__name__)
spans = tracer(__name__)


def create_app(
    routes: Sequence[BaseRoute],
    *,
    readiness: Readiness,
    metrics: CollectorRegistry,
    settings: HttpSettings | None = None,
    writes: str = "admin",
    writers_read: re.Pattern[str] | None = None,
    clock: Clock | None = None,
    streamed: Sequence[str] = (),
) -> Starlette:
    """A Starlette application with `routes` and what `install` adds."""
    app = Starlette(routes=list(routes))
    install(
        app,
        readiness=readiness,
        metrics=metrics,
        settings=settings,
        writes=writes,
        writers_read=writers_read,
        clock=clock,
        streamed=streamed,
    )
    return app


def install(
    app: Starlette,
    *,
    readiness: Readiness,
    metrics: CollectorRegistry,
    settings: HttpSettings | None = None,
    writes: str = "admin",
    writers_read: re.Pattern[str] | None = None,
    clock: Clock | None = None,
    streamed: Sequence[str] = (),
) -> None:
    """Add probes, /metrics, request ids, metrics of requests, hosts, keys, limits and problem documents.

    `writes` is the scope that a key needs for more than reading; it also allows to read paths that match
    `writers_read`. The handlers of the paths in `streamed` read and limit their bodies themselves. Raises
    SetupError for settings that would open the service to strangers.
    """

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        blocked = readiness.blocked
        status = HTTPStatus.SERVICE_UNAVAILABLE if blocked else HTTPStatus.OK
        return JSONResponse({"ready": not blocked, "blocked_by": dict(blocked)}, status)

    async def scrape(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(metrics), headers={"Content-Type": media_type, "Vary": "Accept"})

    app.router.routes += [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", scrape)]
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(TransientError, _transient)
    app.add_middleware(HeadAsGet)
    counted = RequestMetrics(metrics)
    if settings is not None:
        # Made once here, so that wrong settings stop the start and not the first request.
        access = Access(
            app, settings=settings, writes=writes, writers_read=writers_read, clock=clock or SystemClock()
        )
        app.add_middleware(BoundedBodies, settings=settings, streamed=streamed)
        app.add_middleware(_Through, access=access)
        app.add_middleware(HostGuard, settings=settings)
        counted.keys_left.source = access.keys_left
        app.add_middleware(PacedAnswers, seconds=settings.reader_seconds)
    app.add_middleware(OneLength)
    app.add_middleware(_Requests, metrics=counted, clock=clock or SystemClock())


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - the handler's registration says so
    return problem_response(error, request)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - the handler's registration says so
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request.scope))
    problem = Problem(status, status.name, error.detail or status.phrase, headers=headers)
    return problem_response(problem, request)


def _allowed(scope: Scope) -> list[str]:
    """The methods of all routes of the path; the router names those of the first one alone."""
    routes = scope["app"].router.routes
    asked = {method: {**scope, "method": "GET" if method == "HEAD" else method} for method in METHODS}
    return [m for m, one in asked.items() if any(r.matches(dict(one))[0] is Match.FULL for r in routes)]


async def _transient(request: Request, error: Exception) -> Response:
    code, seconds = "UNAVAILABLE", RETRY_SECONDS
    if isinstance(error, DataFault):
        code, seconds = error.code, REPAIR_SECONDS
    headers = {"Retry-After": seconds}
    return problem_response(
        Problem(HTTPStatus.SERVICE_UNAVAILABLE, code, str(error), headers=headers), request
    )


class _Through:
    """Puts an `Access` that exists already where the middleware of an application is built."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        access.protect(app)
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._access(scope, receive, send)


class _Requests:
    """Gives each request an id and counts it; the last resort for an error that nobody handles."""

    def __init__(self, app: ASGIApp, *, metrics: RequestMetrics, clock: Clock) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["k2_request_id"] = request_id
        started = self._clock.monotonic()
        status: list[int] = []
        size = 0

        async def send_with_id(message: Message) -> None:
            nonlocal size
            size += len(message.get("body", b""))
            if message["type"] == "http.response.start":
                status.append(message["status"])
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            with (
                self._metrics.running.track_inprogress(),
                bound(request_id=request_id),
                _traced(scope, status),
                _left(status),
            ):
                await self._app(scope, receive, send_with_id)
        # Nothing is swallowed: the error is logged, and a response that has begun is cut off by the raise.
        except Exception:
            if status:
                raise
            internal = Problem(
                HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", "the request failed; see the service's log"
            )
            await problem_response(internal, Request(scope))(scope, receive, send_with_id)
        finally:
            route = _route(scope)
            self._metrics.answered.labels(route, str(status[0] if status else 0)).inc()
            self._metrics.bytes.labels(route).inc(size)
            self._metrics.seconds.labels(route).observe(self._clock.monotonic() - started)


@contextmanager
def _left(status: list[int]) -> Iterator[None]:
    """Note that the client left: its body ended early, or the work for it was given up."""
    with suppress(ClientDisconnect):
        yield
    if not status:
        status.append(CLIENT_LEFT)


@contextmanager
def _traced(scope: Scope, status: Sequence[int]) -> Iterator[None]:
    """In the span of a request, and its failure in the log; `status` holds the answer's code once known."""
    context = extract_http(Headers(scope=scope))
    asked = spans if scope["path"] not in PROBES else NoOpTracer()
    with begun(asked, "http request", context=context, kind=SpanKind.SERVER) as span:
        try:
            yield
        except ReaderTooSlow as error:
            log.warning("connection cut", path=scope["path"], reason=str(error))
            raise
        # Logged here, where the span is, and raised again.
        except Exception as error:
            log.error("a request failed", path=scope["path"], exc_info=error)
            raise
        finally:
            if span.is_recording():
                span.set_attribute("http.request.method", scope["method"])
                span.set_attribute("http.route", _route(scope))
                span.set_attribute("http.response.status_code", status[0] if status else 0)
                span.set_attribute("k2.request_id", scope["k2_request_id"])


def _request_id(scope: Scope) -> str:
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return given if REQUEST_ID.fullmatch(given) else str(ULID())


def _route(scope: Scope) -> str:
    # The pattern, not the path: a symbol is never a label.
    known = getattr(scope.get("route"), "path", None)
    if known is not None:
        return str(known)
    routes = scope["app"].routes if "app" in scope else ()
    found = (r for r in routes if isinstance(r, Route) and r.matches(scope)[0] is Match.FULL)
    return next((str(r.path) for r in found), "unmatched")
